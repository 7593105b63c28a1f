package server

import (
	"net/http"

	"github.com/moby/moby/api/types/network"
)

// networkConnect connects a container to a network.
func (s *server) networkConnect(w http.ResponseWriter, r *http.Request) error {
	var req network.ConnectRequest
	if err := s.decode(r, &req); err != nil {
		return err
	}
	return s.backend.NetworkConnect(lasting(r), r.PathValue("id"), req.Container, req.EndpointConfig)
}

// networkDisconnect disconnects a container from a network.
func (s *server) networkDisconnect(w http.ResponseWriter, r *http.Request) error {
	var req network.DisconnectRequest
	if err := s.decode(r, &req); err != nil {
		return err
	}
	return s.backend.NetworkDisconnect(lasting(r), r.PathValue("id"), req.Container, req.Force)
}
