package server

import "net/http"

// containerLogsClear removes what is kept of a container's output. It is lade's
// own.
func (s *server) containerLogsClear(w http.ResponseWriter, r *http.Request) error {
	if err := s.backend.ContainerLogsClear(lasting(r), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
