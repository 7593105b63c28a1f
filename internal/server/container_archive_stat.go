package server

import (
	"net/http"
)

// containerArchiveStat describes a path in a container, in a header.
func (s *server) containerArchiveStat(w http.ResponseWriter, r *http.Request) error {
	path, err := archivePath(r)
	if err != nil {
		return err
	}
	stat, err := s.backend.ContainerArchiveStat(r.Context(), r.PathValue("id"), path)
	if err != nil {
		return err
	}
	return setPathStat(w.Header(), stat)
}
