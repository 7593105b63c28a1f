package server

import (
	"net/http"

	"github.com/moby/moby/api/types/jsonstream"

	"lade/internal/engine"
)

// imageLoad reads images from a tar.
func (s *server) imageLoad(w http.ResponseWriter, r *http.Request) error {
	quiet := params(r).boolOr("quiet", true)
	return s.progress(w, r, func(p engine.Progress) error {
		return s.backend.ImageLoad(r.Context(), r.Body, func(m jsonstream.Message) {
			if !quiet || m.Progress == nil && m.ID == "" {
				p(m)
			}
		})
	})
}
