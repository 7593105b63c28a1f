package server

import (
	"net/http"
	"net/url"
)

// buildPrune removes of the build cache what the parameters say.
func (s *server) buildPrune(w http.ResponseWriter, r *http.Request) error {
	if _, err := params(r).filters(); err != nil {
		return err
	}
	report, err := s.backend.BuildPrune(lasting(r), url.Values(params(r)))
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, report)
}
