package server

import (
	"net/http"
	"strconv"
)

// systemPing says that the engine is there, mostly in headers.
func (s *server) systemPing(w http.ResponseWriter, r *http.Request) error {
	const body = "OK"
	h := w.Header()
	h["Builder-Version"] = []string{s.builder}
	h["Swarm"] = []string{"inactive"}
	h["Cache-Control"] = []string{"no-cache, no-store, must-revalidate"}
	h["Pragma"] = []string{"no-cache"}
	h["Content-Type"] = []string{"text/plain; charset=utf-8"}
	if r.Method == http.MethodHead {
		h["Content-Length"] = []string{"0"}
		return nil
	}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	_, err := w.Write([]byte(body))
	return err
}
