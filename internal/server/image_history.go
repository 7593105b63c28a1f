package server

import (
	"net/http"

	"github.com/moby/moby/api/types/image"
)

// imageHistory lists how an image was made, newest first.
func (s *server) imageHistory(w http.ResponseWriter, r *http.Request) error {
	platform, err := oneJSONPlatform(params(r).all("platform"))
	if err != nil {
		return err
	}
	history, err := s.backend.ImageHistory(r.Context(), r.PathValue("name"), platform)
	if err != nil {
		return err
	}
	if history == nil {
		history = []image.HistoryResponseItem{}
	}
	return s.reply(w, r, http.StatusOK, history)
}
