package server

import (
	"net/http"
)

// execInspect describes an additional process.
func (s *server) execInspect(w http.ResponseWriter, r *http.Request) error {
	e, err := s.backend.ExecInspect(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if e.DetachKeys == nil {
		out := *e
		out.DetachKeys = []byte{} // "", not null
		e = &out
	}
	return s.reply(w, r, http.StatusOK, e)
}
