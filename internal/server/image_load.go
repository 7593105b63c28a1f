package server

import (
	"net/http"

	"github.com/moby/moby/api/types/jsonstream"

	"lade/internal/engine/pull"
	"lade/internal/errdefs"
)

// imageLoad reads images from a tar.
func (s *server) imageLoad(w http.ResponseWriter, r *http.Request) error {
	if len(params(r).all("platform")) > 0 {
		return errdefs.NotImplementedf("loading single platforms is not implemented")
	}
	quiet := params(r).boolOr("quiet", true)
	return s.progress(w, r, func(p pull.Progress) error {
		return s.backend.ImageLoad(r.Context(), r.Body, func(m jsonstream.Message) {
			if !quiet || m.Progress == nil && m.ID == "" {
				p(m)
			}
		})
	})
}
