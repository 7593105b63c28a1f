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
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, err = w.Write(metrics.Text(all, &s.operations))
	return err
}
