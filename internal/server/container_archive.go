package server

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"

	"github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
	"lade/internal/tarpass"
)

// containerArchive sends a path in a container as a tar.
func (s *server) containerArchive(w http.ResponseWriter, r *http.Request) error {
	path, err := archivePath(r)
	if err != nil {
		return err
	}
	a, err := s.backend.ContainerArchive(r.Context(), r.PathValue("id"), path)
	if err != nil {
		return err
	}
	defer a.Content.Close() // a reader's; the copy has the error that counts
	if err := setPathStat(w.Header(), a.Stat); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-tar")
	if passes(r) {
		return s.pass(w, r, func(c *tarpass.Conn) error {
			if _, err := io.Copy(c, a.Content); err != nil {
				return err // in the midst of an archive nothing can be said
			}
			return verdict(c, nil)
		})
	}
	_, err = io.Copy(w, a.Content)
	return err
}

func archivePath(r *http.Request) (string, error) {
	path := params(r).get("path")
	if path == "" {
		return "", errdefs.Invalidf("bad parameter: path cannot be empty")
	}
	return path, nil
}

func setPathStat(h http.Header, stat container.PathStat) error {
	b, err := json.Marshal(stat)
	if err != nil {
		return err
	}
	h.Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(b))
	return nil
}
