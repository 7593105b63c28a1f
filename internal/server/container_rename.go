package server

import (
	"net/http"

	"lade/internal/errdefs"
)

// containerRename gives a container another name.
func (s *server) containerRename(w http.ResponseWriter, r *http.Request) error {
	to := params(r).get("name")
	if to == "" {
		return errdefs.Invalidf("Neither old nor new names may be empty")
	}
	if err := s.backend.ContainerRename(lasting(r), r.PathValue("id"), to); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
