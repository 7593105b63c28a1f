package server

import (
	"net/http"
)

// containerPause freezes a container.
func (s *server) containerPause(w http.ResponseWriter, r *http.Request) error {
	if err := s.backend.ContainerPause(lasting(r), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
