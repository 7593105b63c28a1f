package server

import (
	"net/http"
)

// volumeRemove removes a volume.
func (s *server) volumeRemove(w http.ResponseWriter, r *http.Request) error {
	if err := s.backend.VolumeRemove(lasting(r), r.PathValue("name"), params(r).bool("force")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
