package server

import (
	"net/http"
)

// imagePrune removes unused images.
func (s *server) imagePrune(w http.ResponseWriter, r *http.Request) error {
	f, err := params(r).filters()
	if err != nil {
		return err
	}
	report, err := s.backend.ImagePrune(lasting(r), f)
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, report)
}
