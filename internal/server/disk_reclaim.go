package server

import "net/http"

// diskReclaim removes what was not used for longest, by the policy for the disk,
// or tells what that would be. It is an operation of lade's own.
func (s *server) diskReclaim(w http.ResponseWriter, r *http.Request) error {
	report, err := s.backend.DiskReclaim(lasting(r), r.Method == http.MethodGet || params(r).bool("dry-run"))
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, report)
}
