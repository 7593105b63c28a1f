package server

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"

	"lade/internal/engine"
	"lade/internal/server/stream"
)

// hijack returns the function with which the engine takes the connection over:
// 101 for a client that asked to upgrade, so that proxies know, otherwise 200.
// The Docker SDK for Python loses output that comes right behind the header.
func (s *server) hijack(w http.ResponseWriter, r *http.Request) engine.Hijack {
	return func(tty bool) (engine.Conn, error) {
		// What is left of the body must not be taken for input.
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return engine.Conn{}, err
		}
		h := w.Header()
		h["Content-Type"] = []string{mediaType(r, tty)}
		var head bytes.Buffer
		if r.Header.Get("Upgrade") != "" {
			h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{"tcp"}
			head.WriteString("HTTP/1.1 101 UPGRADED\r\n")
		} else {
			head.WriteString("HTTP/1.1 200 OK\r\n")
		}
		if err := h.Write(&head); err != nil {
			return engine.Conn{}, err
		}
		head.WriteString("\r\n")
		c, err := stream.Hijack(w, head.Bytes(), strings.HasPrefix(r.UserAgent(), "docker-sdk-python/"))
		if a, ok := w.(*answer); ok {
			a.hijacked = !errors.Is(err, http.ErrNotSupported)
		}
		return c, err
	}
}
