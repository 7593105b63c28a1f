package server

import (
	"net/http"

	"github.com/moby/moby/api/types/registry"
)

// systemAuth checks credentials with a registry.
func (s *server) systemAuth(w http.ResponseWriter, r *http.Request) error {
	var auth registry.AuthConfig
	if err := s.decode(r, &auth); err != nil {
		return err
	}
	res, err := s.backend.SystemAuth(r.Context(), auth)
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, res)
}
