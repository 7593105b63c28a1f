package server

import (
	"net/http"
)

// imageTag gives an image one more name.
func (s *server) imageTag(w http.ResponseWriter, r *http.Request) error {
	q := params(r)
	if err := s.backend.ImageTag(lasting(r), r.PathValue("name"), q.get("repo"), q.get("tag")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}
