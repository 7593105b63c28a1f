package server

import (
	"net/http"
)

// execResize sets the size of an additional process's terminal.
func (s *server) execResize(w http.ResponseWriter, r *http.Request) error {
	height, width, err := params(r).terminal()
	if err != nil {
		return err
	}
	return s.backend.ExecResize(lasting(r), r.PathValue("id"), height, width)
}
