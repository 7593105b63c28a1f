package server

import (
	"net/http"
)

// containerInspect describes a container.
func (s *server) containerInspect(w http.ResponseWriter, r *http.Request) error {
	c, err := s.backend.ContainerInspect(r.Context(), r.PathValue("id"), params(r).bool("size"))
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, c)
}
