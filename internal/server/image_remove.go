package server

import (
	"net/http"
	"strings"

	"github.com/moby/moby/api/types/image"

	"lade/internal/engine"
	"lade/internal/errdefs"
)

// imageRemove removes a name of an image, and the image with its last name.
func (s *server) imageRemove(w http.ResponseWriter, r *http.Request) error {
	name, q := r.PathValue("name"), params(r)
	if strings.TrimSpace(name) == "" {
		return errdefs.Invalidf("image name cannot be blank")
	}
	platforms, err := jsonPlatforms(q.all("platforms"))
	if err != nil {
		return err
	}
	removed, err := s.backend.ImageRemove(lasting(r), name, engine.ImageRemoveOptions{
		Force:     q.bool("force"),
		NoPrune:   q.bool("noprune"),
		Platforms: platforms,
	})
	if err != nil {
		return err
	}
	if removed == nil {
		removed = []image.DeleteResponse{}
	}
	return s.reply(w, r, http.StatusOK, removed)
}
