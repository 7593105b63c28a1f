package server

import (
	"net/http"
	"strings"
)

// containerTop lists the processes in a container.
func (s *server) containerTop(w http.ResponseWriter, r *http.Request) error {
	top, err := s.backend.ContainerTop(r.Context(), r.PathValue("id"), strings.Fields(params(r).get("ps_args")))
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, top)
}
