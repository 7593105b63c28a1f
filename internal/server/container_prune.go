package server

import (
	"net/http"
)

// containerPrune removes stopped containers.
func (s *server) containerPrune(w http.ResponseWriter, r *http.Request) error {
	f, err := params(r).filters()
	if err != nil {
		return err
	}
	report, err := s.backend.ContainerPrune(lasting(r), f)
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, report)
}
