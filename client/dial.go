package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	moby "github.com/moby/moby/client"
)

// dialTimeout bounds how long a TCP connection may take to come up.
const dialTimeout = 30 * time.Second

// Open makes the API client for e. Nothing is dialled before the first request.
// apiVersion pins the version of the API; empty negotiates it.
// Start, when not nil, is called once if nobody chose the host and nothing
// answers, and the default socket is dialled again after it.
func (e *Endpoint) Open(apiVersion, userAgent string, start func(context.Context) error) (*moby.Client, error) {
	d := &dialer{e: e, start: start}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return d.dial(ctx) }
	// With a dial function from the start, the transport does not arm itself for
	// HTTP/2, which the client library would take for a wish for TLS.
	tr := &http.Transport{DialContext: dial, TLSClientConfig: e.TLS, DisableCompression: true, MaxIdleConns: 6, IdleConnTimeout: 30 * time.Second}
	opts := []moby.Opt{
		moby.WithHTTPClient(&http.Client{Transport: tr, CheckRedirect: moby.CheckRedirect}),
		moby.WithUserAgent(userAgent),
	}
	if len(e.Headers) > 0 {
		opts = append(opts, moby.WithHTTPHeaders(e.Headers))
	}
	if strings.HasPrefix(e.Host, "ssh://") {
		// The far end decides what it dials; here there is only a pipe to it.
		opts = append(opts, moby.WithHost("http://docker.example.com"))
	} else {
		opts = append(opts, moby.WithHost(e.Host))
	}
	opts = append(opts, moby.WithDialContext(dial))
	if apiVersion != "" {
		opts = append(opts, moby.WithAPIVersion(apiVersion))
	}
	return moby.New(opts...)
}

// Dial opens a bare connection to the engine, for streams that are not requests.
func (e *Endpoint) Dial(ctx context.Context, start func(context.Context) error) (net.Conn, error) {
	conn, err := (&dialer{e: e, start: start}).dial(ctx)
	if err != nil || e.TLS == nil || !strings.HasPrefix(e.Host, "tcp://") {
		return conn, err
	}
	cfg := e.TLS.Clone()
	u, _ := url.Parse(e.Host)
	cfg.ServerName = cmp.Or(cfg.ServerName, u.Hostname())
	return tls.Client(conn, cfg), nil
}

type dialer struct {
	e     *Endpoint
	start func(context.Context) error

	mu     sync.Mutex
	socket string // the default socket that answered
	failed error  // why the engine could not be started
}

// dial connects. A socket that is not there is reported like one that nobody
// listens at: the words that follow from it are those scripts look for.
func (d *dialer) dial(ctx context.Context) (net.Conn, error) {
	conn, err := d.connect(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		err = &net.OpError{Op: "dial", Net: "unix", Err: syscall.ECONNREFUSED}
	}
	return conn, err
}

func (d *dialer) connect(ctx context.Context) (net.Conn, error) {
	u, err := url.Parse(d.e.Host)
	if err != nil {
		return nil, err
	}
	nd := &net.Dialer{Timeout: dialTimeout}
	switch u.Scheme {
	case "tcp":
		return nd.DialContext(ctx, "tcp", u.Host)
	case "ssh":
		return dialSSH(ctx, u)
	}
	path := strings.TrimPrefix(d.e.Host, "unix://")
	if d.e.Chosen {
		return nd.DialContext(ctx, "unix", path)
	}
	return d.dialDefault(ctx, nd, path)
}

// dialDefault tries the default sockets and starts an engine if none answers.
func (d *dialer) dialDefault(ctx context.Context, nd *net.Dialer, first string) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.socket != "" {
		return nd.DialContext(ctx, "unix", d.socket)
	}
	var errs []error
	for _, s := range []string{first, DockerSocket} {
		conn, err := nd.DialContext(ctx, "unix", s)
		if err == nil {
			d.socket = s
			return conn, nil
		}
		errs = append(errs, err)
	}
	if d.failed != nil {
		return nil, d.failed // the client library asks more than once
	}
	if d.start == nil {
		return nil, errs[0]
	}
	err := d.start(ctx)
	d.start = nil
	if err != nil {
		d.failed = &StartError{err}
		return nil, d.failed
	}
	conn, err := nd.DialContext(ctx, "unix", first)
	if err == nil {
		d.socket = first
	}
	return conn, err
}

// StartError is why an engine could not be started.
type StartError struct{ Err error }

func (e *StartError) Error() string { return e.Err.Error() }

// Unwrap is the cause.
func (e *StartError) Unwrap() error { return e.Err }

// dialSSH runs the client of the far machine as a proxy to its engine: lade's,
// or Docker's where there is no lade.
func dialSSH(ctx context.Context, u *url.URL) (net.Conn, error) {
	if u.Hostname() == "" {
		return nil, errors.New("invalid SSH URL: host is not specified")
	}
	if u.User != nil {
		if _, secret := u.User.Password(); secret {
			return nil, errors.New("invalid SSH URL: plain-text password is not supported")
		}
	}
	args := []string{"-o", "ConnectTimeout=30", "-T"}
	if name := u.User.Username(); name != "" {
		args = append(args, "-l", name)
	}
	if p := u.Port(); p != "" {
		args = append(args, "-p", p)
	}
	remote := "exec lade system dial-stdio"
	if u.Path != "" && u.Path != "/" {
		remote = fmt.Sprintf("exec lade --host unix://%[1]s system dial-stdio", u.Path)
	}
	fallback := strings.Replace(remote, "exec lade", "exec docker", 1)
	args = append(args, "--", u.Hostname(), "if command -v lade >/dev/null 2>&1; then "+remote+"; else "+fallback+"; fi")
	return command(ctx, "ssh", args)
}

// command starts a program whose standard streams are the connection. It
// outlives ctx, which only bounds the dialling.
func command(ctx context.Context, name string, args []string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cmd := exec.Command(name, args...)
	cmd.WaitDelay = time.Second // what it started may still hold its streams
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c := &pipeConn{cmd: cmd, in: in, out: out}
	cmd.Stderr = &c.said
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return c, nil
}

// pipeConn is a net.Conn over the standard streams of a program.
type pipeConn struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  io.ReadCloser
	said tail
	once sync.Once
}

func (c *pipeConn) Read(p []byte) (int, error) {
	n, err := c.out.Read(p)
	if err == io.EOF && n == 0 {
		if s := c.said.String(); s != "" {
			return 0, fmt.Errorf("command %v: %s: %w", c.cmd.Args, strings.TrimSpace(s), io.ErrUnexpectedEOF)
		}
	}
	return n, err
}

func (c *pipeConn) Write(p []byte) (int, error) { return c.in.Write(p) }

// CloseWrite tells the far end that no more is coming.
func (c *pipeConn) CloseWrite() error { return c.in.Close() }

func (c *pipeConn) Close() error {
	c.once.Do(func() {
		_ = c.in.Close()
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	})
	return nil
}

func (c *pipeConn) LocalAddr() net.Addr              { return pipeAddr(c.cmd.Path) }
func (c *pipeConn) RemoteAddr() net.Addr             { return pipeAddr(c.cmd.Path) }
func (c *pipeConn) SetDeadline(time.Time) error      { return nil }
func (c *pipeConn) SetReadDeadline(time.Time) error  { return nil }
func (c *pipeConn) SetWriteDeadline(time.Time) error { return nil }

type pipeAddr string

func (pipeAddr) Network() string  { return "command" }
func (a pipeAddr) String() string { return string(a) }

// tail keeps the first kilobytes that a program wrote to its standard error.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if room := 4096 - len(t.b); room > 0 {
		t.b = append(t.b, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
