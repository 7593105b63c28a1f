package registry

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"lade/internal/errdefs"
)

const (
	maxWait   = time.Minute      // the longest Retry-After that is worth waiting
	maxPause  = 10 * time.Second // the longest back-off
	maxReason = 64 << 10         // bytes of an error's body
)

// refusal is an answer with an error status.
type refusal struct {
	status int
	code   string        // of the first error in the body, such as MANIFEST_UNKNOWN
	text   string        // "manifest unknown: manifest unknown"
	after  time.Duration // Retry-After; -1: none
}

func (r *refusal) Error() string { return r.text }

// temporary reports whether the same request may succeed later.
func (r *refusal) temporary() bool {
	switch r.status {
	case http.StatusTooManyRequests, http.StatusRequestTimeout, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// request is one to the session's endpoint.
type request struct {
	method string
	url    *url.URL
	header http.Header
	body   func() (io.ReadCloser, error) // opens it, again for each attempt; nil: none
	size   int64                         // bytes of the body
	scopes []string                      // beside the session's
}

// url is that of a path below the endpoint's.
func (s *session) url(path string, q url.Values) *url.URL {
	u := s.e.base
	u.Path = strings.TrimSuffix(u.Path, "/") + path
	if q == nil {
		q = url.Values{}
	}
	if s.e.mirror && s.e.namespace != "" {
		q.Set("ns", s.e.namespace)
	}
	u.RawQuery = q.Encode()
	return &u
}

// dress gives a request its headers.
func (s *session) dress(req *http.Request, header http.Header) {
	for _, h := range []http.Header{s.e.header, header} {
		for k, v := range h {
			req.Header[k] = v
		}
	}
}

// do sends one request without a body, as send does.
func (s *session) do(ctx context.Context, method, path string, header http.Header) (*http.Response, error) {
	return s.send(ctx, request{method: method, url: s.url(path, nil), header: header})
}

// send sends one request and returns an answer with a status below 400; the
// caller must close its body. Sending and reading fail when the registry stalls.
// Errors: *refusal, Unauthorized, Unavailable, the context's.
func (s *session) send(ctx context.Context, r request) (*http.Response, error) {
	if r.url.Host == s.e.base.Host {
		ctx = auth.WithScopesForHost(ctx, s.e.base.Host, append(r.scopes, s.scopes...)...)
	}
	guarded, w := watch(ctx, s.c.Stall)
	req, err := http.NewRequestWithContext(guarded, r.method, r.url.String(), nil)
	if err != nil {
		w.end()
		return nil, err
	}
	if r.url.Host == s.e.base.Host {
		s.dress(req, r.header)
	} else {
		maps.Copy(req.Header, r.header)
	}
	if r.body != nil {
		req.GetBody = func() (io.ReadCloser, error) {
			b, err := r.body()
			return &fedBody{b, w}, err
		}
		if req.Body, err = req.GetBody(); err != nil {
			w.end()
			return nil, err
		}
		req.ContentLength = r.size
	}
	resp, err := s.auth.Do(req)
	if err != nil {
		w.end()
		return nil, classify(ctx, req, err)
	}
	if resp.StatusCode >= 400 {
		defer w.end()
		return nil, errors.Join(refused(resp), resp.Body.Close())
	}
	resp.Body = &watchedBody{resp.Body, w}
	return resp, nil
}

// classify gives the failure of a request its kind.
func classify(ctx context.Context, req *http.Request, err error) error {
	if cerr := context.Cause(ctx); cerr != nil {
		return cerr
	}
	if e, ok := errors.AsType[*errdefs.Error](err); ok {
		return e // of the transport: a bad file of certificates
	}
	if errors.Is(err, auth.ErrBasicCredentialNotFound) {
		return errdefs.Unauthorizedf("%s %q: no basic auth credentials", titled(req.Method), req.URL.Redacted())
	}
	if r, ok := errors.AsType[*errcode.ErrorResponse](err); ok { // of a token service
		if r.StatusCode == http.StatusUnauthorized || r.StatusCode == http.StatusForbidden {
			return errdefs.Unauthorizedf("unauthorized: %w", err)
		}
		return errdefs.Unavailablef("%w", err)
	}
	if errors.Is(err, context.Canceled) { // by the watch
		return errdefs.Unavailablef("%s %q: the registry does not answer", titled(req.Method), req.URL.Redacted())
	}
	return errdefs.Unavailablef("%w", err)
}

func titled(method string) string { return method[:1] + strings.ToLower(method[1:]) }

// refused reads an error answer.
func refused(resp *http.Response) error {
	r := &refusal{status: resp.StatusCode, after: -1}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReason))
	if err != nil {
		b = nil // the status says enough
	}
	var body struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(b, &body) == nil && len(body.Errors) > 0 {
		e := body.Errors[0]
		r.code = e.Code
		r.text = strings.ReplaceAll(strings.ToLower(e.Code), "_", " ")
		if e.Message != "" {
			r.text += ": " + e.Message
		}
	}
	if r.text == "" {
		r.text = "received unexpected HTTP status: " + resp.Status
	}
	if v := resp.Header.Get("Retry-After"); v != "" {
		if n, err := strconv.Atoi(v); err == nil && n >= 0 {
			r.after = time.Duration(n) * time.Second
		} else if t, err := http.ParseTime(v); err == nil {
			r.after = max(0, time.Until(t))
		}
	}
	if r.status == http.StatusUnauthorized {
		return &errdefs.Error{Kind: errdefs.Unauthorized, Msg: r.text, Err: r}
	}
	return r
}

// retry calls try until it succeeds, fails for good, or has failed c.Retries
// times in a row without progress. Waiting ends with the context.
func (c *Client) retry(ctx context.Context, try func() (progressed bool, err error)) error {
	for failed := 0; ; {
		progressed, err := try()
		if err == nil {
			return nil
		}
		if cerr := context.Cause(ctx); cerr != nil {
			return cerr
		}
		r, refused := errors.AsType[*refusal](err)
		again := errdefs.KindOf(err) == errdefs.Unavailable
		if refused {
			again = r.temporary()
		}
		if progressed {
			failed = 0
		}
		failed++
		if !again || failed >= c.Retries {
			return err
		}
		pause := min(maxPause, c.Backoff<<(failed-1))
		pause += rand.N(pause/2 + 1)
		if refused && r.after >= 0 {
			if r.after > maxWait {
				return err
			}
			pause = r.after
		}
		c.Logger.Debug("registry: trying again", "error", err, "after", pause)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}

// watchdog cancels a request when nothing has come for a while.
type watchdog struct {
	timer  *time.Timer
	after  time.Duration
	cancel context.CancelFunc
	bit    atomic.Bool
}

func watch(ctx context.Context, after time.Duration) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancel(ctx)
	w := &watchdog{after: after, cancel: cancel}
	w.timer = time.AfterFunc(after, func() {
		w.bit.Store(true)
		cancel()
	})
	return ctx, w
}

func (w *watchdog) end() {
	w.timer.Stop()
	w.cancel()
}

// fedBody is the body of a request. A registry that takes none of it has stalled.
type fedBody struct {
	io.ReadCloser
	w *watchdog
}

func (b *fedBody) Read(p []byte) (int, error) {
	b.w.timer.Reset(b.w.after)
	return b.ReadCloser.Read(p)
}

type watchedBody struct {
	io.ReadCloser
	w *watchdog
}

// Read is for one goroutine. Only waiting for the registry counts as stalling,
// not what the caller does between two reads.
func (b *watchedBody) Read(p []byte) (int, error) {
	b.w.timer.Reset(b.w.after)
	n, err := b.ReadCloser.Read(p)
	b.w.timer.Stop()
	if err != nil && err != io.EOF {
		if b.w.bit.Load() {
			return n, errdefs.Unavailablef("the registry has sent nothing for %s", b.w.after)
		}
		err = errdefs.Unavailablef("reading from the registry: %w", err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.w.end()
	return b.ReadCloser.Close()
}
