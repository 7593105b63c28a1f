package server

import (
	"net/http"

	"github.com/moby/moby/api/types/network"
)

// networkCreate makes a network.
func (s *server) networkCreate(w http.ResponseWriter, r *http.Request) error {
	var req network.CreateRequest
	if err := s.decode(r, &req); err != nil {
		return err
	}
	res, err := s.backend.NetworkCreate(lasting(r), req)
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusCreated, res)
}
