package server

import (
	"net/http"

	"github.com/moby/moby/api/types/jsonstream"

	"lade/internal/engine/pull"
)

// imageLoad reads images from a tar.
func (s *server) imageLoad(w http.ResponseWriter, r *http.Request) error {
	platforms, err := jsonPlatforms(params(r).all("platform"))
	if err != nil {
		return err
	}
	quiet := params(r).boolOr("quiet", true)
	return s.progress(w, r, func(p pull.Progress) error {
		return s.backend.ImageLoad(r.Context(), r.Body, platforms, func(m jsonstream.Message) {
			if !quiet || m.Progress == nil && m.ID == "" {
				p(m)
			}
		})
	})
}
