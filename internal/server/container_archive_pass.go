package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"

	"github.com/moby/moby/api/types/common"

	"lade/internal/errdefs"
	"lade/internal/server/stream"
	"lade/internal/tarpass"
)

// passes reports whether the client wants large files of an archive as
// descriptors, see package tarpass.
func passes(r *http.Request) bool { return r.Header.Get("Upgrade") == tarpass.Protocol }

// pass takes the connection over for an archive with descriptors, and calls f
// unless they do not come through: then the client sees the end, and copies
// without.
func (s *server) pass(w http.ResponseWriter, r *http.Request, f func(*tarpass.Conn) error) error {
	c, err := s.passing(w, r)
	if err != nil {
		return err
	}
	if err := c.Answer(); err != nil {
		s.log.Debug("descriptors do not come through", "error", err)
		return c.Close()
	}
	err = f(c)
	if err != nil && status(err) == http.StatusInternalServerError {
		s.log.Error("request failed", "op", callOf(r.Context()).operation, "path", r.URL.Path, "error", err)
	}
	return errors.Join(err, c.Close())
}

// verdict tells the client how the copy ended.
func verdict(c *tarpass.Conn, err error) error {
	var said common.ErrorResponse
	if err != nil {
		said.Message = err.Error()
	}
	return errors.Join(err, json.NewEncoder(c).Encode(said))
}

// passing answers 101 and takes the connection over. What it shows is that of a
// socket pair if the client's is no plain socket; descriptors do not come through
// that.
func (s *server) passing(w http.ResponseWriter, r *http.Request) (*tarpass.Conn, error) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	h := w.Header()
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{tarpass.Protocol}
	var head bytes.Buffer
	head.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	if err := h.Write(&head); err != nil {
		return nil, err
	}
	head.WriteString("\r\n")
	taken, err := stream.Hijack(w, head.Bytes(), false)
	if a, ok := w.(*answer); ok {
		a.hijacked = !errors.Is(err, http.ErrNotSupported)
	}
	if err != nil {
		return nil, err
	}
	defer taken.File.Close()
	c, err := net.FileConn(taken.File)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok || len(taken.Early) > 0 {
		return nil, errors.Join(errdefs.Invalidf("descriptors are passed over a unix socket, after the answer"), c.Close())
	}
	return tarpass.New(u), nil
}
