package server

import (
	"net/http"

	"lade/internal/engine"
)

// systemShutdown stops every container. It is lade's own.
func (s *server) systemShutdown(w http.ResponseWriter, r *http.Request) error {
	o, err := stopOptions(params(r))
	if err != nil {
		return err
	}
	stopped, err := s.backend.SystemShutdown(lasting(r), o)
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, engine.ShutdownResponse{Stopped: append([]string{}, stopped...)})
}
