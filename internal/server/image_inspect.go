package server

import (
	"net/http"

	"lade/internal/errdefs"
)

// imageInspect describes an image.
func (s *server) imageInspect(w http.ResponseWriter, r *http.Request) error {
	q := params(r)
	platform, err := oneJSONPlatform(q.all("platform"))
	if err != nil {
		return err
	}
	manifests := q.bool("manifests")
	if manifests && platform != nil {
		return errdefs.Invalidf("conflicting options: manifests and platform options cannot both be set")
	}
	img, err := s.backend.ImageInspect(r.Context(), r.PathValue("name"), platform)
	if err != nil {
		return err
	}
	if !manifests && img.Manifests != nil {
		out := *img
		out.Manifests = nil
		img = &out
	}
	return s.reply(w, r, http.StatusOK, img)
}
