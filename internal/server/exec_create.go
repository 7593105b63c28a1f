package server

import (
	"net/http"

	"github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

// execCreate prepares an additional process in a container.
func (s *server) execCreate(w http.ResponseWriter, r *http.Request) error {
	var req container.ExecCreateRequest
	if err := s.decode(r, &req); err != nil {
		return err
	}
	if len(req.Cmd) == 0 {
		return errdefs.Invalidf("No exec command specified")
	}
	id, err := s.backend.ExecCreate(lasting(r), r.PathValue("id"), req)
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusCreated, container.ExecCreateResponse{ID: id})
}
