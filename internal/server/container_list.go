package server

import (
	"bytes"
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
	c := callOf(r.Context())
	var scratch []byte
	b := s.lists.body(list, s.compat.Form(c.operation, c.version), func(one *container.Summary) []byte {
		adjusted, ok := s.compat.Response(c.operation, c.version, []container.Summary{*one}).([]container.Summary)
		if !ok || len(adjusted) != 1 {
			panic("a list that is none any more")
		}
		scratch = appendSummary(scratch[:0], &adjusted[0])
		return bytes.Clone(scratch)
	})
	defer s.lists.done(b)
	return sendJSON(w, http.StatusOK, b.text)
}
