package server

import (
	"net/http"
)

// volumeInspect describes a volume.
func (s *server) volumeInspect(w http.ResponseWriter, r *http.Request) error {
	v, err := s.backend.VolumeInspect(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, v)
}
