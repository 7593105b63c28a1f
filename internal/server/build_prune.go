package server

import (
	"net/http"

	"github.com/moby/moby/api/types/build"
)

// buildPrune has nothing to remove while the engine keeps no build cache.
func (s *server) buildPrune(w http.ResponseWriter, r *http.Request) error {
	if _, err := params(r).filters(); err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, build.CachePruneReport{})
}
