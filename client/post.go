package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	moby "github.com/moby/moby/client"
)

// mostAnswer bounds an answer that is read whole.
const mostAnswer = 1 << 20

// Post sends body as JSON to a path of the API, and reads the answer into out:
// for requests with fields that the client library does not know. It goes where
// api goes, in the version that api has agreed upon with the engine. The words
// of errors are the library's.
func (e *Endpoint) Post(ctx context.Context, api *moby.Client, path string, body, out any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return e.Send(ctx, api, path, "application/json", bytes.NewReader(raw), out)
}

// Send is Post with a body of any kind; nil is none. Without out there is no
// answer to read.
func (e *Endpoint) Send(ctx context.Context, api *moby.Client, path, kind string, body io.Reader, out any) error {
	resp, err := e.request(ctx, api, http.MethodPost, path, kind, body)
	if err != nil {
		return err
	}
	defer resp.Close()
	if out == nil {
		return nil
	}
	raw, err := io.ReadAll(io.LimitReader(resp, mostAnswer))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("answer of %s: %w", path, err)
	}
	return nil
}

// Receive reads from a path of the API; the caller closes what it returns.
func (e *Endpoint) Receive(ctx context.Context, api *moby.Client, path string) (io.ReadCloser, error) {
	return e.request(ctx, api, http.MethodGet, path, "", nil)
}

// request makes a request and returns the body of the answer, unless that is an
// error.
func (e *Endpoint) request(ctx context.Context, api *moby.Client, method, path, kind string, body io.Reader) (io.ReadCloser, error) {
	dial := api.Dialer() // TLS is its matter
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+moby.DummyHost+"/v"+api.ClientVersion()+path, body)
	if err != nil {
		return nil, err
	}
	for k, v := range e.Headers {
		req.Header.Set(k, v)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 200 && resp.StatusCode <= 299 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, mostAnswer))
	if err != nil {
		return nil, err
	}
	var said struct{ Message string }
	if json.Unmarshal(raw, &said) != nil || said.Message == "" {
		said.Message = resp.Status
	}
	return nil, errors.New("Error response from daemon: " + said.Message)
}
