package server

import (
	"net/http"

	"lade/internal/engine"
)

// containerUpdate changes a container's limits and restart policy.
func (s *server) containerUpdate(w http.ResponseWriter, r *http.Request) error {
	var u engine.UpdateConfig
	if err := s.decode(r, &u); err != nil {
		return err
	}
	if u.PidsLimit != nil && *u.PidsLimit <= 0 {
		none := int64(0)
		u.PidsLimit = &none
	}
	res, err := s.backend.ContainerUpdate(lasting(r), r.PathValue("id"), u)
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, res)
}
