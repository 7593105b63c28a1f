package server

import (
	"net/http"
)

// distributionInspect tells what a registry has under a name.
func (s *server) distributionInspect(w http.ResponseWriter, r *http.Request) error {
	found, err := s.backend.DistributionInspect(r.Context(), r.PathValue("name"), registryAuth(r))
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, found)
}
