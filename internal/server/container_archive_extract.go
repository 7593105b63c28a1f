package server

import (
	"net/http"

	"lade/internal/engine/archive"
)

// containerArchiveExtract unpacks a tar at a path in a container.
func (s *server) containerArchiveExtract(w http.ResponseWriter, r *http.Request) error {
	path, err := archivePath(r)
	if err != nil {
		return err
	}
	q := params(r)
	return s.backend.ContainerArchiveExtract(r.Context(), r.PathValue("id"), path, archive.ExtractOptions{
		NoOverwriteDirNonDir: q.bool("noOverwriteDirNonDir"),
		CopyUIDGID:           q.bool("copyUIDGID"),
	}, r.Body)
}
