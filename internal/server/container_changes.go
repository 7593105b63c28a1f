package server

import (
	"net/http"

	"github.com/moby/moby/api/types/container"
)

// containerChanges lists what a container changed in its image's files.
func (s *server) containerChanges(w http.ResponseWriter, r *http.Request) error {
	changes, err := s.backend.ContainerChanges(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if changes == nil {
		changes = []container.FilesystemChange{}
	}
	return s.reply(w, r, http.StatusOK, changes)
}
