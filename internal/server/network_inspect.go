package server

import (
	"net/http"
)

// networkInspect describes a network.
func (s *server) networkInspect(w http.ResponseWriter, r *http.Request) error {
	n, err := s.backend.NetworkInspect(r.Context(), r.PathValue("id"), params(r).bool("verbose"))
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, n)
}
