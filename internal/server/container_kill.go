package server

import (
	"net/http"
)

// containerKill sends a container a signal, SIGKILL if none is named.
func (s *server) containerKill(w http.ResponseWriter, r *http.Request) error {
	if err := s.backend.ContainerKill(lasting(r), r.PathValue("id"), params(r).get("signal")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
