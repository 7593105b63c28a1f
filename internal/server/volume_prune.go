package server

import (
	"net/http"
)

// volumePrune removes unused volumes.
func (s *server) volumePrune(w http.ResponseWriter, r *http.Request) error {
	f, err := params(r).filters()
	if err != nil {
		return err
	}
	report, err := s.backend.VolumePrune(lasting(r), f)
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, report)
}
