package server

import (
	"net/http"

	"lade/internal/engine"
)

// containerRemove removes a container.
func (s *server) containerRemove(w http.ResponseWriter, r *http.Request) error {
	q := params(r)
	err := s.backend.ContainerRemove(lasting(r), r.PathValue("id"), engine.RemoveOptions{
		Force:   q.bool("force"),
		Volumes: q.bool("v"),
		Link:    q.bool("link"),
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
