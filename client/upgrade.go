package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	moby "github.com/moby/moby/client"
)

// Upgrade makes a request that turns its connection into one of another protocol,
// and returns that with the header of the answer. The caller closes the
// connection.
//
// Errors: the engine did not switch protocols, for whatever reason; what dialling
// says; the context's.
func (e *Endpoint) Upgrade(ctx context.Context, api *moby.Client, method, path, protocol string) (net.Conn, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+moby.DummyHost+"/v"+api.ClientVersion()+path, nil)
	if err != nil {
		return nil, nil, err
	}
	for k, v := range e.Headers {
		req.Header.Set(k, v)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", protocol)
	conn, err := api.Dialer()(ctx)
	if err != nil {
		return nil, nil, err
	}
	head, err := exchange(ctx, conn, req)
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, head, nil
}

// exchange sends a request and reads the header of an answer that switches
// protocols. The peer says nothing more before we do.
func exchange(ctx context.Context, conn net.Conn, req *http.Request) (http.Header, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends the read
	defer stop()
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || r.Buffered() > 0 {
		return nil, fmt.Errorf("no other protocol: %s", resp.Status)
	}
	return resp.Header, nil
}
