package server

import (
	"io"
	"net/http"

	"lade/internal/engine/archive"
	"lade/internal/tarpass"
)

// containerArchiveExtract unpacks a tar at a path in a container.
func (s *server) containerArchiveExtract(w http.ResponseWriter, r *http.Request) error {
	path, err := archivePath(r)
	if err != nil {
		return err
	}
	q := params(r)
	extract := func(content io.Reader) error {
		return s.backend.ContainerArchiveExtract(r.Context(), r.PathValue("id"), path, archive.ExtractOptions{
			NoOverwriteDirNonDir: q.bool("noOverwriteDirNonDir"),
			CopyUIDGID:           q.bool("copyUIDGID"),
		}, content)
	}
	if passes(r) {
		return s.pass(w, r, func(c *tarpass.Conn) error { return verdict(c, extract(c)) })
	}
	return extract(r.Body)
}
