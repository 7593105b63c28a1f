package server

import (
	"net/http"

	"github.com/moby/moby/api/types/container"

	"lade/internal/engine"
)

// execStart starts an additional process and connects the client to its
// streams, unless it is to be detached.
func (s *server) execStart(w http.ResponseWriter, r *http.Request) error {
	var req container.ExecStartRequest
	if err := s.decode(r, &req); err != nil {
		return err
	}
	o := engine.ExecStartOptions{Detach: req.Detach, Tty: req.Tty, ConsoleSize: req.ConsoleSize}
	if o.Detach {
		return s.backend.ExecStart(lasting(r), r.PathValue("id"), o)
	}
	o.Hijack = s.hijack(w, r)
	return s.backend.ExecStart(r.Context(), r.PathValue("id"), o)
}
