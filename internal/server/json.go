package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"lade/internal/errdefs"
)

// keep is the largest buffer that is used again.
const keep = 4 << 20

// reply answers with a value of the newest types, adjusted for the client's
// version.
func (s *server) reply(w http.ResponseWriter, r *http.Request, code int, value any) error {
	c := callOf(r.Context())
	return s.encode(w, code, s.compat.Response(c.operation, c.version, value))
}

// encode answers with a JSON text, encoded once, with its length.
func (s *server) encode(w http.ResponseWriter, code int, value any) error {
	b := s.buffers.Get().(*bytes.Buffer)
	b.Reset()
	if err := encodeTo(b, value); err != nil {
		return err
	}
	err := sendJSON(w, code, b.Bytes())
	if b.Cap() <= keep {
		s.buffers.Put(b)
	}
	return err
}

// sendJSON answers with a JSON text, with its length.
func sendJSON(w http.ResponseWriter, code int, text []byte) error {
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(text))}
	w.WriteHeader(code)
	_, err := w.Write(text)
	return err
}

// encodeTo writes a JSON text and a newline, with <, > and & as they are.
func encodeTo(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// decode reads the body into v and adjusts it for the client's version.
// An empty body leaves v as it is. Errors: Invalid, in Docker's words.
func (s *server) decode(r *http.Request, v any) error {
	if err := jsonBody(r); err != nil {
		return err
	}
	if r.Body != nil && r.ContentLength != 0 {
		d := json.NewDecoder(r.Body)
		if err := d.Decode(v); err != nil {
			if errors.Is(err, io.EOF) {
				return errdefs.Invalidf("invalid JSON: got EOF while reading request body")
			}
			return errdefs.Invalidf("invalid JSON: %w", dockersField(err))
		}
		switch _, err := d.Token(); {
		case errors.Is(err, io.ErrUnexpectedEOF): // it was cut off behind a value
			return errdefs.Invalidf("invalid JSON: %w", err)
		case !errors.Is(err, io.EOF):
			return errdefs.Invalidf("unexpected content after JSON")
		}
	}
	c := callOf(r.Context())
	return s.compat.Body(c.operation, c.version, v)
}

// dockersField takes from the path of a field that cannot be decoded the levels
// that come from embedding Docker's types in ours.
func dockersField(err error) error {
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		t.Field = strings.TrimPrefix(t.Field, "UpdateConfig.")
		t.Field = strings.Replace(t.Field, "HostConfig.HostConfig.", "HostConfig.", 1)
		t.Field = strings.Replace(t.Field, "Asked.", "", 1)
		t.Field = strings.Replace(t.Field, "Changes.", "", 1)
	}
	return err
}

// jsonBody checks the media type of the body. None is needed without a body.
func jsonBody(r *http.Request) error {
	ct := r.Header.Get("Content-Type")
	if ct == "" && (r.Body == nil || r.ContentLength == 0) || ct == "application/json" {
		return nil
	}
	media, _, err := mime.ParseMediaType(ct)
	if err != nil {
		return errdefs.Invalidf("malformed Content-Type header (%s): %w", ct, err)
	}
	if media != "application/json" {
		return errdefs.Invalidf("unsupported Content-Type header (%s): must be 'application/json'", ct)
	}
	return nil
}
