package server

import (
	"net/http"
)

// containerExport sends all files of a container as a tar.
func (s *server) containerExport(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "application/octet-stream")
	return s.backend.ContainerExport(r.Context(), r.PathValue("id"), w)
}
