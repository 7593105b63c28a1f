package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	moby "github.com/moby/moby/client"
)

// errNotLocal says that Read does not go there.
var errNotLocal = errors.New("not a unix socket")

// Read asks for a path of the API, with the version in it or without one, and
// returns the whole answer. It is for what has to be quick and may fail: it goes
// to an engine that listens on a unix socket and runs, asks for nothing else
// before, and has no words for users. Who gets an error asks with the client
// library, whose words are good.
func (e *Endpoint) Read(ctx context.Context, path, userAgent string) ([]byte, error) {
	socket, ok := strings.CutPrefix(e.Host, "unix://")
	if !ok {
		return nil, errNotLocal
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+moby.DummyHost+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", userAgent)
	for k, v := range e.Headers {
		req.Header.Set(k, v)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends the read
	defer stop()
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, resp.Status)
	}
	if resp.ContentLength < 0 {
		return io.ReadAll(resp.Body)
	}
	body := make([]byte, resp.ContentLength)
	_, err = io.ReadFull(resp.Body, body)
	return body, err
}
