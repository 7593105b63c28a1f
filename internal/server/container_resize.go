package server

import (
	"net/http"
)

// containerResize sets the size of a container's terminal.
func (s *server) containerResize(w http.ResponseWriter, r *http.Request) error {
	q := params(r)
	height, err := q.cells("h", "height")
	if err != nil {
		return err
	}
	width, err := q.cells("w", "width")
	if err != nil {
		return err
	}
	return s.backend.ContainerResize(lasting(r), r.PathValue("id"), height, width)
}
