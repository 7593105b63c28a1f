package server

import (
	"net/http"
)

// containerRestart stops and starts a container.
func (s *server) containerRestart(w http.ResponseWriter, r *http.Request) error {
	o, err := stopOptions(params(r))
	if err != nil {
		return err
	}
	if err := s.backend.ContainerRestart(lasting(r), r.PathValue("id"), o); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
