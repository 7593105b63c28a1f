package server

import (
	"net/http"

	"github.com/moby/moby/api/types/image"

	"lade/internal/engine"
	"lade/internal/errdefs"
)

// imageList lists images.
func (s *server) imageList(w http.ResponseWriter, r *http.Request) error {
	q := params(r)
	f, err := q.filters()
	if err != nil {
		return err
	}
	if q.bool("identity") && !q.bool("manifests") {
		return errdefs.Invalidf("conflicting options: identity requires manifests=1")
	}
	list, err := s.backend.ImageList(r.Context(), engine.ImageListOptions{
		All:        q.bool("all"),
		SharedSize: q.bool("shared-size"),
		Manifests:  q.bool("manifests"),
		Filters:    f,
	})
	if err != nil {
		return err
	}
	if list == nil {
		list = []image.Summary{}
	}
	return s.reply(w, r, http.StatusOK, list)
}
