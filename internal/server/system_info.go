package server

import (
	"net/http"
)

// systemInfo describes the engine and its host.
func (s *server) systemInfo(w http.ResponseWriter, r *http.Request) error {
	info, err := s.backend.SystemInfo(r.Context())
	if err != nil {
		return err
	}
	if s.authz != nil {
		info.Plugins.Authorization = s.authz.Names()
	}
	return s.reply(w, r, http.StatusOK, info)
}
