package server

import "net/http"

// networkPrune removes the networks that nobody uses.
func (s *server) networkPrune(w http.ResponseWriter, r *http.Request) error {
	f, err := params(r).filters()
	if err != nil {
		return err
	}
	report, err := s.backend.NetworkPrune(lasting(r), f)
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, report)
}
