package server

import (
	"net/http"

	"lade/internal/engine"
)

// containerArchiveExtract unpacks a tar at a path in a container.
func (s *server) containerArchiveExtract(w http.ResponseWriter, r *http.Request) error {
	path, err := archivePath(r)
	if err != nil {
		return err
	}
	q := params(r)
	return s.backend.ContainerArchiveExtract(r.Context(), r.PathValue("id"), path, engine.ExtractOptions{
		NoOverwriteDirNonDir: q.bool("noOverwriteDirNonDir"),
		CopyUIDGID:           q.bool("copyUIDGID"),
	}, r.Body)
}
