package container

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/moby/moby/api/types/common"
	"github.com/moby/moby/api/types/container"
	moby "github.com/moby/moby/client"

	"lade/internal/cli/app"
	"lade/internal/tarpass"
)

// channel asks the engine for a connection on which large files are passed as
// descriptors; nil if there is none, because it is on another machine, or of
// another kind, or refuses: then the ordinary way says why.
func (c *copying) channel(ctx context.Context, method string, q url.Values) (*tarpass.Conn, http.Header) {
	v, err := c.api.ServerVersion(ctx, moby.ServerVersionOptions{})
	if err != nil || v.Platform.Name != app.Name {
		return nil, nil
	}
	ep, err := c.env.Endpoint()
	if err != nil {
		return nil, nil
	}
	conn, head, err := ep.Upgrade(ctx, c.api, method, "/containers/"+url.PathEscape(c.id)+"/archive?"+q.Encode(), tarpass.Protocol)
	if err != nil {
		return nil, nil
	}
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close() // nothing was sent on it
		return nil, nil
	}
	pass := tarpass.New(socket)
	if err := pass.Ask(); err != nil {
		_ = pass.Close()
		return nil, nil
	}
	return pass, head
}

// passTo sends an archive with large files as descriptors. Without a way to
// do so, ok is false and nothing was done.
func (c *copying) passTo(ctx context.Context, o moby.CopyToContainerOptions, archive io.WriterTo) (ok bool, err error) {
	q := url.Values{"path": {o.DestinationPath}, "noOverwriteDirNonDir": {"true"}}
	if o.CopyUIDGID {
		q.Set("copyUIDGID", "true")
	}
	pass, _ := c.channel(ctx, http.MethodPut, q)
	if pass == nil {
		return false, nil
	}
	defer pass.Close()
	defer context.AfterFunc(ctx, func() { _ = pass.SetDeadline(time.Unix(1, 0)) })()
	_, sent := archive.WriteTo(pass)
	if sent == nil {
		sent = pass.CloseWrite()
	}
	// Whoever gave up early says why; what could not be sent is a mere sequel.
	said, err := verdict(pass)
	switch {
	case said != "":
		return true, errors.New("Error response from daemon: " + said)
	case ctx.Err() != nil:
		return true, context.Cause(ctx)
	}
	return true, errors.Join(sent, err)
}

// verdict reads how the copy ended for the engine.
func verdict(r io.Reader) (string, error) {
	var said common.ErrorResponse
	err := json.NewDecoder(r).Decode(&said)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // it went away
	}
	return said.Message, err
}

// incoming is an archive that comes from a container.
type incoming struct {
	io.Reader
	stat container.PathStat

	conn  *tarpass.Conn // nil: it came in the ordinary way
	close func() error
}

// Close ends it, before its end or after.
func (i *incoming) Close() error { return i.close() }

// end is to be called when the archive was read: had the engine stopped in its
// midst, that would look like an end, too.
func (i *incoming) end() error {
	if i.conn == nil {
		return nil
	}
	_, err := verdict(i.Reader)
	return err
}

// open begins to read a path of the container; with pass, large files come as
// descriptors if that can be.
func (c *copying) open(ctx context.Context, path string, pass bool) (*incoming, error) {
	if pass {
		if conn, head := c.channel(ctx, http.MethodGet, url.Values{"path": {path}}); conn != nil {
			stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
			in := &incoming{Reader: conn, conn: conn, close: func() error { stop(); return conn.Close() }}
			raw, err := base64.StdEncoding.DecodeString(head.Get("X-Docker-Container-Path-Stat"))
			if err == nil {
				err = json.Unmarshal(raw, &in.stat)
			}
			if err != nil {
				return nil, errors.Join(err, in.Close())
			}
			return in, nil
		}
	}
	res, err := c.api.CopyFromContainer(ctx, c.id, moby.CopyFromContainerOptions{SourcePath: path})
	if err != nil {
		return nil, err
	}
	return &incoming{Reader: res.Content, stat: res.Stat, close: res.Content.Close}, nil
}
