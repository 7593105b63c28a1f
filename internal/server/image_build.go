package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"

	"lade/internal/errdefs"
)

// imageBuild has the builder build what the client sends, and passes on what it
// says, as it comes. A client that goes away ends the build.
func (s *server) imageBuild(w http.ResponseWriter, r *http.Request) error {
	return s.passOn(w, r, "/build")
}

// buildCancel ends a build by its id.
func (s *server) buildCancel(w http.ResponseWriter, r *http.Request) error {
	if params(r).get("id") == "" {
		return errdefs.Invalidf("build ID not provided")
	}
	return s.passOn(w, r, "/build/cancel")
}

// passOn has the builder answer a request. The answer is not touched: errors in
// it are the builder's.
func (s *server) passOn(w http.ResponseWriter, r *http.Request, path string) error {
	t := &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return s.backend.BuildDial(ctx) },
		DisableKeepAlives:  true,
		DisableCompression: true,
	}
	u := url.URL{Scheme: "http", Host: "lade-build", Path: path, RawQuery: url.Values(params(r)).Encode()}
	q, err := http.NewRequestWithContext(r.Context(), r.Method, u.String(), r.Body)
	if err != nil {
		return err
	}
	q.ContentLength, q.Header = r.ContentLength, r.Header.Clone()
	// The builder may answer before it has read everything.
	c := http.NewResponseController(w)
	_ = c.EnableFullDuplex() // not supported by recorders of tests
	resp, err := t.RoundTrip(q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	w.Header()["Content-Type"] = resp.Header["Content-Type"]
	w.WriteHeader(resp.StatusCode)
	return flushed(w, c, resp.Body)
}

// flushed copies a stream whose parts are worth reading as soon as they come.
func flushed(w io.Writer, c *http.ResponseController, from io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			if err := c.Flush(); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// session connects the builder with a client that serves it files, secrets and
// credentials.
func (s *server) session(w http.ResponseWriter, r *http.Request) error {
	return s.passConnection(w, r, "/session")
}

// grpc connects a client with the builder's own API, that of BuildKit.
func (s *server) grpc(w http.ResponseWriter, r *http.Request) error {
	return s.passConnection(w, r, "/grpc")
}

// passConnection connects client and builder until either is done. The builder
// writes the header of the answer, too.
func (s *server) passConnection(w http.ResponseWriter, r *http.Request, path string) error {
	if r.Header.Get("Upgrade") != "h2c" {
		return errdefs.Invalidf("%s needs an upgrade of the connection to h2c", path)
	}
	to, err := s.backend.BuildDial(r.Context())
	if err != nil {
		return err
	}
	defer to.Close()
	from, buffered, err := http.NewResponseController(w).Hijack()
	if a, ok := w.(*answer); ok {
		a.hijacked = !errors.Is(err, http.ErrNotSupported)
	}
	if err != nil {
		return err
	}
	defer from.Close()
	h := r.Header.Clone()
	h.Set("Connection", "Upgrade")
	if _, err := io.WriteString(to, "POST "+path+" HTTP/1.1\r\nHost: lade-build\r\n"); err != nil {
		return err
	}
	if err := h.Write(to); err != nil {
		return err
	}
	if _, err := io.WriteString(to, "\r\n"); err != nil {
		return err
	}
	done := make(chan struct{}, 2)
	pump := func(w net.Conn, r io.Reader) {
		_, _ = io.Copy(w, r) // either end may go away
		done <- struct{}{}
	}
	go pump(to, buffered)
	go pump(from, to)
	<-done // HTTP/2 has no half-closed connections
	return nil
}
