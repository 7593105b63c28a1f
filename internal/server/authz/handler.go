package authz

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"lade/internal/errdefs"
)

// bodyLimit is the largest JSON that a plugin is shown. A larger request is
// refused, for a plugin that has not seen the end has not seen it.
const bodyLimit = 1 << 20

// Handler returns next behind the chain. uri tells the path and query that a
// request is for, with its version.
func (c *Chain) Handler(next http.Handler, uri func(*http.Request) string, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		plugins := *c.plugins.Load()
		if len(plugins) == 0 {
			next.ServeHTTP(w, r)
			return
		}
		q, err := newQuestion(r, uri(r))
		if err == nil {
			err = ask(r.Context(), plugins, "AuthZReq", q)
		}
		if err != nil {
			log.Warn("request not authorized", "method", r.Method, "path", r.URL.Path, "user", q.User, "error", err)
			deny(w, err)
			return
		}
		g := &gate{to: w, ask: func(status int, h http.Header, body []byte) error {
			a := *q
			a.RequestBody = nil // it was seen
			a.ResponseStatusCode, a.ResponseHeaders, a.ResponseBody = status, flat(h), body
			err := ask(r.Context(), plugins, "AuthZRes", &a)
			if err != nil {
				log.Warn("answer not authorized", "method", r.Method, "path", r.URL.Path, "user", q.User, "error", err)
			}
			return err
		}}
		defer func() {
			// The handler has noticed that its answer was not wanted.
			if p := recover(); p != nil && (!g.denied || p != http.ErrAbortHandler) {
				panic(p)
			}
		}()
		next.ServeHTTP(g, r)
		g.finish()
	})
}

// newQuestion describes a request and leaves its body to be read again. The
// question is there for the log also with an error.
func newQuestion(r *http.Request, uri string) (*question, error) {
	q := &question{RequestMethod: r.Method, RequestURI: uri, RequestHeaders: flat(r.Header)}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		q.User, q.UserAuthNMethod = r.TLS.PeerCertificates[0].Subject.CommonName, "TLS"
		for _, c := range r.TLS.PeerCertificates {
			q.RequestPeerCertificates = append(q.RequestPeerCertificates, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})))
		}
	}
	path, _, _ := strings.Cut(uri, "?")
	if !isJSON(r.Header) || strings.HasSuffix(path, "/auth") { // a password
		return q, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, bodyLimit+1))
	switch {
	case err != nil:
		return q, errdefs.Invalidf("the body cannot be read: %w", err)
	case len(body) > bodyLimit:
		return q, errdefs.Forbiddenf("authorization denied: a body of more than %d bytes is shown to no plugin", bodyLimit)
	}
	q.RequestBody = body
	r.Body = struct {
		io.Reader
		io.Closer
	}{bytes.NewReader(body), r.Body}
	return q, nil
}

func isJSON(h http.Header) bool {
	media, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && media == "application/json"
}

// flat returns the headers with one value each, without credentials.
func flat(h http.Header) map[string]string {
	m := make(map[string]string, len(h))
	for k, v := range h {
		switch http.CanonicalHeaderKey(k) {
		case "Authorization", "X-Registry-Config", "X-Registry-Auth":
			continue
		}
		m[k] = v[len(v)-1]
	}
	return m
}

// deny answers with an error, in the form of the API.
func deny(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	switch errdefs.KindOf(err) {
	case errdefs.Forbidden:
		code = http.StatusForbidden
	case errdefs.Invalid:
		code = http.StatusBadRequest
	}
	b, _ := json.Marshal(map[string]string{"message": err.Error()}) // text is always encoded
	h := w.Header()
	clear(h)
	h.Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(append(b, '\n')) // a client that left does not miss it
}

// Canonical returns the path and query of a request whose path was cleaned.
func Canonical(version, path string, query string) string {
	u := url.URL{Path: path, RawQuery: query}
	if version != "" {
		u.Path = "/v" + version + path
	}
	return u.RequestURI()
}
