package server

import (
	"net/http"

	"lade/internal/engine"
)

// containerStop stops a container.
func (s *server) containerStop(w http.ResponseWriter, r *http.Request) error {
	o, err := stopOptions(params(r))
	if err != nil {
		return err
	}
	if err := s.backend.ContainerStop(lasting(r), r.PathValue("id"), o); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func stopOptions(q query) (engine.StopOptions, error) {
	o := engine.StopOptions{Signal: q.get("signal")}
	if q.get("t") != "" {
		seconds, err := q.int("t")
		if err != nil {
			return o, err
		}
		o.Timeout = &seconds
	}
	return o, nil
}
