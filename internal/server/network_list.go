package server

import (
	"net/http"

	"github.com/moby/moby/api/types/network"
)

// networkList lists networks.
func (s *server) networkList(w http.ResponseWriter, r *http.Request) error {
	f, err := params(r).filters()
	if err != nil {
		return err
	}
	list, err := s.backend.NetworkList(r.Context(), f)
	if err != nil {
		return err
	}
	if list == nil {
		list = []network.Summary{}
	}
	return s.reply(w, r, http.StatusOK, list)
}
