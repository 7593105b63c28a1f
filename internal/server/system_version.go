package server

import (
	"maps"
	"net/http"
	"slices"

	"lade/internal/server/compat"
)

// systemVersion names the versions of the engine, its parts and its API; the
// last is the server's own knowledge.
func (s *server) systemVersion(w http.ResponseWriter, r *http.Request) error {
	v, err := s.backend.SystemVersion(r.Context())
	if err != nil {
		return err
	}
	newest, oldest := compat.Newest.String(), s.oldest.String()
	v.APIVersion, v.MinAPIVersion = newest, oldest
	v.Components = slices.Clone(v.Components)
	for i, c := range v.Components {
		if c.Name == "Engine" {
			details := maps.Clone(c.Details)
			if details == nil {
				details = make(map[string]string)
			}
			details["ApiVersion"], details["MinAPIVersion"] = newest, oldest
			v.Components[i].Details = details
		}
	}
	return s.reply(w, r, http.StatusOK, v)
}
