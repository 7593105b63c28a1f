package server

import (
	"net/http"

	"github.com/moby/moby/api/types/build"
)

// buildPrune has nothing to remove while the engine keeps no build cache.
func (s *server) buildPrune(w http.ResponseWriter, r *http.Request) error {
	return s.reply(w, r, http.StatusOK, build.CachePruneReport{})
}
