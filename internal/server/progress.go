package server

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/moby/moby/api/types/jsonstream"

	"lade/internal/engine/pull"
	"lade/internal/errdefs"
	"lade/internal/server/stream"
)

// progressMessage is a message of a long operation, with the error's text in
// the place where older clients and libraries look for it too.
type progressMessage struct {
	jsonstream.Message
	ErrorText string `json:"error,omitempty"`
}

// progress answers with the messages of a long operation. An error before the
// first message becomes the answer's status, a later one the last message, and
// so does a registry's refusal of credentials: as a status it would make Docker's
// client ask for a password where there may be nobody to ask.
func (s *server) progress(w http.ResponseWriter, r *http.Request, run func(pull.Progress) error) error {
	var (
		mu  sync.Mutex // engines report from several goroutines
		out *stream.Writer
		b   bytes.Buffer
	)
	begin := func() {
		if out == nil {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusOK)
			out = stream.NewWriter(w)
		}
	}
	report := func(m jsonstream.Message) {
		mu.Lock()
		defer mu.Unlock()
		begin()
		text := ""
		if m.Error != nil {
			text = m.Error.Message
		}
		b.Reset()
		if err := encodeTo(&b, progressMessage{m, text}); err == nil {
			_, err = out.Write(b.Bytes())
			_ = err // the client left: Close says so
		}
	}
	err := run(report)
	if err != nil && out == nil && errdefs.KindOf(err) != errdefs.Unauthorized {
		if errdefs.KindOf(err) == errdefs.Unavailable {
			// The registry, not the engine. As Docker: on 503 clients try again for ever.
			err = errdefs.Internalf("%w", err)
		}
		return err
	}
	if err != nil {
		report(jsonstream.Message{Error: &jsonstream.Error{Message: err.Error()}})
	}
	begin()
	return ended(r, nil, out.Close())
}

// send writes one value of a stream, adjusted for the client's version.
func (s *server) send(out *stream.Writer, r *http.Request, value any) error {
	c := callOf(r.Context())
	b := s.buffers.Get().(*bytes.Buffer)
	defer s.buffers.Put(b)
	b.Reset()
	if err := encodeTo(b, s.compat.Response(c.operation, c.version, value)); err != nil {
		return err
	}
	_, err := out.Write(b.Bytes())
	return err
}

// ended returns what went wrong in a stream: nothing, when it was the client
// who ended it.
func ended(r *http.Request, errs ...error) error {
	if r.Context().Err() != nil {
		return context.Canceled
	}
	return errors.Join(errs...)
}
