package server

import (
	"net/http"

	"lade/internal/engine/pull"
)

// imageSearch searches a registry.
func (s *server) imageSearch(w http.ResponseWriter, r *http.Request) error {
	q := params(r)
	limit, err := q.int("limit")
	if err != nil {
		return err
	}
	f, err := q.filters()
	if err != nil {
		return err
	}
	found, err := s.backend.ImageSearch(r.Context(), pull.SearchOptions{Term: q.get("term"), Limit: limit, Filters: f, Auth: registryAuth(r)})
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, present(found))
}
