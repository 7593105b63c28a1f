package server

import (
	"net/http"

	"github.com/moby/moby/api/types/network"
)

// networkPrune removes no network: the predefined ones stay, and there are no
// others yet.
func (s *server) networkPrune(w http.ResponseWriter, r *http.Request) error {
	f, err := params(r).filters()
	if err != nil {
		return err
	}
	if err := f.Validate("label", "label!", "until"); err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, network.PruneReport{})
}
