package server

import (
	"net/http"

	"lade/internal/engine"
)

// imageAttestations lists the statements that came with an image.
func (s *server) imageAttestations(w http.ResponseWriter, r *http.Request) error {
	q := params(r)
	platform, err := oneJSONPlatform(q.all("platform"))
	if err != nil {
		return err
	}
	list, err := s.backend.ImageAttestations(r.Context(), r.PathValue("name"), engine.AttestationOptions{
		Platform: platform, Types: q.all("type"), Content: q.bool("statement"),
	})
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, list)
}
