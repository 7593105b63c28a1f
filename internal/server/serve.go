package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"time"

	"github.com/moby/moby/api/types/common"

	"lade/internal/errdefs"
	"lade/internal/ids"
	"lade/internal/server/compat"
)

// handler answers one operation. An error that it returns becomes the answer,
// or, when an answer has begun, cuts the connection.
type handler func(w http.ResponseWriter, r *http.Request) error

// answer notes whether the header was sent.
type answer struct {
	http.ResponseWriter
	begun    bool
	hijacked bool
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader sends the header.
func (a *answer) WriteHeader(code int) {
	a.begun = true
	a.ResponseWriter.WriteHeader(code)
}

// Write sends a part of the body, after the header.
func (a *answer) Write(p []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(p)
}

// serve wraps the handler of a route: version, headers, errors, panics.
func (s *server) serve(rt route) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		start := time.Now()
		w := &answer{ResponseWriter: rw}
		defer s.recovered(w, r)
		if n := rt.load(); n != 0 {
			s.load(n)
			defer s.load(-n)
		}

		err := s.dispatch(w, r, rt)
		if rt.load() != 0 {
			s.operations.Observe(rt.operation, time.Since(start), err != nil)
		}
		if s.log.Enabled(r.Context(), slog.LevelDebug) {
			attrs := []any{"peer", connectionOf(r.Context()).Peer, "op", rt.operation, "method", r.Method, "path", r.URL.Path, "took", time.Since(start)}
			if err != nil {
				attrs = append(attrs, "error", err)
			}
			s.log.Debug("request", attrs...)
		}
		switch {
		case err == nil || w.hijacked:
		case !w.begun:
			s.fail(w, r, err)
		case errors.Is(err, context.Canceled) && r.Context().Err() != nil: // the client left
			panic(http.ErrAbortHandler)
		default:
			s.log.Warn("answer cut short", "op", rt.operation, "path", r.URL.Path, "error", err)
			panic(http.ErrAbortHandler)
		}
	})
}

func (s *server) dispatch(w http.ResponseWriter, r *http.Request, rt route) error {
	c := callOf(r.Context())
	c.operation = rt.operation
	h := w.Header()
	h["Server"] = []string{s.agent}
	h["Api-Version"] = []string{compat.Newest.String()}
	h["Ostype"] = []string{"linux"}
	var err error
	if c.version, err = compat.CheckFrom(c.named, s.oldest); err != nil {
		return err
	}
	h["Docker-Experimental"] = []string{s.experimental}
	if !rt.reads() && connectionOf(r.Context()).ReadOnly {
		return errdefs.Forbiddenf("%s is not allowed: this socket is read-only", rt.operation)
	}
	if c.query, err = parseQuery(r.URL.RawQuery); err != nil {
		return err
	}
	s.compat.Query(c.operation, c.version, url.Values(c.query))
	return rt.handle(w, r)
}

// fail answers with the error's status and message.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	code := status(err)
	if code == http.StatusInternalServerError {
		s.log.Error("request failed", "op", callOf(r.Context()).operation, "path", r.URL.Path, "status", code, "error", err)
	}
	if code == http.StatusNotModified {
		w.WriteHeader(code)
		return
	}
	if err := s.encode(w, code, common.ErrorResponse{Message: err.Error()}); err != nil {
		s.log.Debug("answer not sent", "error", err)
	}
}

// recovered answers 500 for a panic of a handler. The message carries an id
// under which the log has the stack.
func (s *server) recovered(w *answer, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	id := ids.Truncate(ids.New())
	s.log.Error("panic in a handler", "id", id, "op", callOf(r.Context()).operation, "path", r.URL.Path,
		"panic", p, "stack", string(debug.Stack()))
	if w.begun || w.hijacked {
		panic(http.ErrAbortHandler)
	}
	s.fail(w, r, errors.New("internal error "+id+": see the daemon's log"))
}

// pageNotFound answers what no route covers, without the headers of the API, as
// Docker does for unknown paths and for known paths with another method.
func (s *server) pageNotFound(w http.ResponseWriter, _ *http.Request) {
	if err := s.encode(w, http.StatusNotFound, common.ErrorResponse{Message: "page not found"}); err != nil {
		s.log.Debug("answer not sent", "error", err)
	}
}
