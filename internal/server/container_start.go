package server

import (
	"net/http"

	"lade/internal/errdefs"
)

// containerStart starts a container.
func (s *server) containerStart(w http.ResponseWriter, r *http.Request) error {
	if params(r).get("checkpoint") != "" {
		return errdefs.NotImplementedf("starting from a checkpoint is not implemented")
	}
	if err := s.backend.ContainerStart(lasting(r), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
