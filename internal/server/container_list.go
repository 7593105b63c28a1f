package server

import (
	"net/http"

	"github.com/moby/moby/api/types/container"

	"lade/internal/engine"
)

// containerList lists containers.
func (s *server) containerList(w http.ResponseWriter, r *http.Request) error {
	q := params(r)
	f, err := q.filters()
	if err != nil {
		return err
	}
	limit, err := q.int("limit")
	if err != nil {
		return err
	}
	list, err := s.backend.ContainerList(r.Context(), engine.ListOptions{
		All:     q.bool("all"),
		Size:    q.bool("size"),
		Limit:   max(limit, 0),
		Filters: f,
	})
	if err != nil {
		return err
	}
	if list == nil {
		list = []container.Summary{}
	}
	return s.reply(w, r, http.StatusOK, list)
}
