package server

import (
	"net/http"
)

// containerResize sets the size of a container's terminal.
func (s *server) containerResize(w http.ResponseWriter, r *http.Request) error {
	height, width, err := params(r).terminal()
	if err != nil {
		return err
	}
	return s.backend.ContainerResize(lasting(r), r.PathValue("id"), height, width)
}
