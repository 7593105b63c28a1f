package server

import (
	"net/http"

	"lade/internal/engine/pull"
)

// imagePush sends an image to a registry; without a tag, all of the repository.
func (s *server) imagePush(w http.ResponseWriter, r *http.Request) error {
	q := params(r)
	platform, err := oneJSONPlatform(q.all("platform"))
	if err != nil {
		return err
	}
	ref := withTag(r.PathValue("name"), q.get("tag"))
	return s.progress(w, r, func(p pull.Progress) error {
		return s.backend.ImagePush(r.Context(), pull.PushOptions{
			Reference: ref, All: !tagged(ref), Platform: platform, Auth: registryAuth(r), Progress: p,
		})
	})
}
