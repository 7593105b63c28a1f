package server

import (
	"net/http"

	"lade/internal/server/metrics"
)

// metrics answers with all numbers of the engine, for Prometheus.
func (s *server) metrics(w http.ResponseWriter, r *http.Request) error {
	all, err := s.backend.ContainersUsage(r.Context())
	if err != nil {
		return err
	}
	for _, u := range all {
		if u.Err != nil {
			s.log.Warn("a container's numbers cannot be read", "container", u.Record.ID, "error", u.Err)
		}
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, err = w.Write(metrics.Text(all, &s.operations))
	return err
}
