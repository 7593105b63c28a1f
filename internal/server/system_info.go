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
	return s.reply(w, r, http.StatusOK, info)
}
