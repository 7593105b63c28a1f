package server

import (
	"net/http"

	"lade/internal/errdefs"
)

// imageSave sends one image as a tar.
func (s *server) imageSave(w http.ResponseWriter, r *http.Request) error {
	return s.saveImages(w, r, []string{r.PathValue("name")})
}

// imageSaveAll sends several images as one tar.
func (s *server) imageSaveAll(w http.ResponseWriter, r *http.Request) error {
	return s.saveImages(w, r, params(r).all("names"))
}

func (s *server) saveImages(w http.ResponseWriter, r *http.Request, names []string) error {
	if len(names) == 0 {
		return errdefs.Invalidf("no images to save")
	}
	platforms, err := jsonPlatforms(params(r).all("platform"))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-tar")
	return s.backend.ImageSave(r.Context(), names, platforms, w)
}
