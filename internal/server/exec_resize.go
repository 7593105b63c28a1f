package server

import (
	"net/http"
)

// execResize sets the size of an additional process's terminal.
func (s *server) execResize(w http.ResponseWriter, r *http.Request) error {
	q := params(r)
	height, err := q.cells("h", "height")
	if err != nil {
		return err
	}
	width, err := q.cells("w", "width")
	if err != nil {
		return err
	}
	return s.backend.ExecResize(lasting(r), r.PathValue("id"), height, width)
}
