package server

import (
	"net/http"

	"github.com/moby/moby/api/types/container"

	"lade/internal/engine/archive"
)

// imageCommit makes an image of a container.
func (s *server) imageCommit(w http.ResponseWriter, r *http.Request) error {
	var config *container.Config
	if r.ContentLength != 0 {
		if err := s.decode(r, &config); err != nil {
			return err
		}
	}
	q := params(r)
	made, err := s.backend.ImageCommit(lasting(r), archive.CommitOptions{
		Container: q.get("container"),
		Reference: withTag(q.get("repo"), q.get("tag")),
		Author:    q.get("author"),
		Message:   q.get("comment"),
		Changes:   q.all("changes"),
		Config:    config,
		Pause:     q.boolOr("pause", true),
	})
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusCreated, made)
}
