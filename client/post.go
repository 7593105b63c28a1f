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
	dial := api.Dialer() // TLS is its matter
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+moby.DummyHost+"/v"+api.ClientVersion()+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	for k, v := range e.Headers {
		req.Header.Set(k, v)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err = io.ReadAll(io.LimitReader(resp.Body, mostAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		var said struct{ Message string }
		if json.Unmarshal(raw, &said) != nil || said.Message == "" {
			said.Message = resp.Status
		}
		return errors.New("Error response from daemon: " + said.Message)
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("answer of %s: %w", path, err)
	}
	return nil
}
