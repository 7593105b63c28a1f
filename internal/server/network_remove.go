package server

import "net/http"

// networkRemove removes a network.
func (s *server) networkRemove(w http.ResponseWriter, r *http.Request) error {
	if err := s.backend.NetworkRemove(lasting(r), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
