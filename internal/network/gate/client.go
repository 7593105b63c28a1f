package gate

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/service"
	"lade/internal/trace"
)

// Options say where a gate is and how to start one.
type Options struct {
	Root   string   // the engine's directory for what ends with the machine's run
	Binary string   // of lade-gate
	Args   []string // before --root
	Env    []string // beside our own
	Build  string   // a gate of another one is replaced; "": none is
	Logger *slog.Logger
}

// Client is a daemon's side. The gate is started when the first port is opened.
type Client struct {
	o Options

	mu    sync.Mutex // also orders the requests
	conn  *connection
	ports map[Key]held

	closed chan struct{}
	wg     sync.WaitGroup
}

// held is a port and our duplicate of its socket.
type held struct {
	port   Port
	socket *os.File
}

// connection is one with a gate that runs.
type connection struct {
	sock    *net.UnixConn
	answers chan answer // closed at its end
}

type answer struct {
	m message
	f *os.File
}

// Connect returns a Client and the ports that a gate serves already, with
// duplicates of their sockets, which are the caller's to close after Close. A gate
// of another build is asked to retire, and one of ours takes its place.
func Connect(o Options) (*Client, map[Key]*os.File, error) {
	c := &Client{o: o, ports: map[Key]held{}, closed: make(chan struct{})}
	conn, build, err := c.find()
	if absent(err) {
		return c, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	found, err := c.list(conn)
	if err != nil {
		for _, f := range found {
			f.Close()
		}
		clear(c.ports)
		conn.sock.Close()
		return nil, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil { // else it has just ended, and a new one has begun already
		c.conn = conn
		if o.Build != "" && build != o.Build {
			c.succeedLocked()
		}
	}
	return c, found, nil
}

// find connects to the gate that runs: the one that was to take another's place, if
// that one has gone. Errors: as dial.
func (c *Client) find() (conn *connection, build string, err error) {
	conn, build, err = c.dial(socketName)
	if !absent(err) {
		return conn, build, err
	}
	if conn, build, err = c.dial(nextName); err != nil {
		return nil, "", err
	}
	if _, err = conn.ask(message{Op: opTake}, nil); err != nil {
		conn.sock.Close()
		return nil, "", err
	}
	return conn, build, nil
}

// absent reports whether an error of dial says that there is no gate.
func absent(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) }

// dial connects to a gate that runs. Errors: ENOENT or ECONNREFUSED without one.
func (c *Client) dial(name string) (conn *connection, build string, err error) {
	sock, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: filepath.Join(c.o.Root, name), Net: "unixpacket"})
	if err != nil {
		return nil, "", err
	}
	conn = &connection{sock: sock, answers: make(chan answer)}
	c.wg.Go(func() {
		conn.receive()
		c.lost(conn)
	})
	m, err := conn.ask(message{Op: opHello}, nil)
	if err != nil {
		sock.Close()
		return nil, "", err
	}
	return conn, m.Build, nil
}

// succeedLocked puts a gate of our build in the place of one of another, which goes
// on where that fails.
func (c *Client) succeedLocked() {
	old := c.conn
	c.o.Logger.Info("the gate of published ports is of another build; a new one takes its place", "ports", len(c.ports))
	next, err := c.nextLocked()
	if err != nil {
		c.o.Logger.Error("the gate of published ports stays what it is", "error", err)
		return
	}
	c.conn = next
	_, err = old.ask(message{Op: opRetire}, nil)
	old.sock.Close()
	if errors.Is(err, io.ErrUnexpectedEOF) { // it has ended by itself
		err = nil
	}
	if next != nil && err == nil {
		_, err = next.ask(message{Op: opTake}, nil)
	}
	if err != nil {
		c.o.Logger.Error("the gate of published ports does not take its place", "error", err)
	}
}

// nextLocked starts a gate that has all ports, and is to take another one's place;
// nil without ports.
func (c *Client) nextLocked() (*connection, error) {
	if len(c.ports) == 0 {
		return nil, nil
	}
	if err := c.launch("--next"); err != nil {
		return nil, err
	}
	next, _, err := c.dial(nextName)
	if err != nil {
		return nil, err
	}
	if err := c.giveLocked(next); err != nil {
		next.sock.Close()
		return nil, err
	}
	return next, nil
}

// giveLocked gives a gate all ports.
func (c *Client) giveLocked(conn *connection) error {
	for _, h := range c.ports {
		if _, err := conn.ask(message{Op: opOpen, Port: &h.port}, h.socket); err != nil {
			return err
		}
	}
	return nil
}

// receive passes answers on until the gate ends or the connection is closed.
func (n *connection) receive() {
	defer close(n.answers)
	buf := make([]byte, maxMessage)
	for {
		m, f, err := receive(n.sock, buf)
		if err != nil {
			return
		}
		n.answers <- answer{m, f}
	}
}

// next waits for an answer. Errors: those that the gate says; io.ErrUnexpectedEOF
// when it has ended.
func (n *connection) next() (message, *os.File, error) {
	a, ok := <-n.answers
	if !ok {
		return message{}, nil, io.ErrUnexpectedEOF
	}
	if a.m.Error != "" {
		return a.m, a.f, errdefs.Internalf("%s", a.m.Error)
	}
	return a.m, a.f, nil
}

// ask sends a request and waits for its answer.
func (n *connection) ask(m message, f *os.File) (message, error) {
	if err := send(n.sock, m, f); err != nil {
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.ENOTCONN) {
			err = io.ErrUnexpectedEOF
		}
		return message{}, err
	}
	got, file, err := n.next()
	if file != nil {
		file.Close()
	}
	return got, err
}

// list asks for the ports and their sockets, and takes them into the books.
func (c *Client) list(n *connection) (map[Key]*os.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := send(n.sock, message{Op: opList}, nil); err != nil {
		return nil, err
	}
	found := map[Key]*os.File{}
	for {
		m, f, err := n.next()
		if err != nil || m.Port == nil {
			return found, err
		}
		if f != nil {
			found[m.Port.Key()] = f
			c.ports[m.Port.Key()] = held{*m.Port, f}
		}
	}
}

// Open has a port served from now on, or changed if it is already. socket is
// listening, or bound for datagrams; it stays the caller's and must be open
// until Close. Errors: Unavailable where no gate can be started.
func (c *Client) Open(p Port, socket *os.File) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	span := trace.Begin(trace.Net, "gate", p.Host.String()+"/"+p.Proto)
	known, was := c.ports[p.Key()]
	send := socket
	if was && known.socket == socket {
		send = nil
	}
	_, err := c.askLocked(message{Op: opOpen, Port: &p}, send)
	if err == nil {
		c.ports[p.Key()] = held{p, socket}
	}
	return span.End(err)
}

// askLocked sends a request to the gate, which is started if it does not run, or
// has just ended.
func (c *Client) askLocked(m message, f *os.File) (message, error) {
	if c.conn != nil {
		got, err := c.conn.ask(m, f)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			return got, err
		}
	}
	if err := c.startLocked(); err != nil {
		return message{}, err
	}
	return c.conn.ask(m, f)
}

// startLocked connects to a new gate, and gives it all ports.
func (c *Client) startLocked() error {
	if c.conn != nil {
		c.conn.sock.Close()
		c.conn = nil
	}
	conn, _, err := c.find()
	if absent(err) {
		if err = c.launch(); err == nil {
			conn, _, err = c.dial(socketName)
		}
	}
	if err != nil {
		return errdefs.Unavailablef("gate: %w", err)
	}
	if err := c.giveLocked(conn); err != nil {
		conn.sock.Close()
		return err
	}
	c.conn = conn
	return nil
}

const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// lost starts a gate in the place of one that ended although there are ports.
func (c *Client) lost(conn *connection) {
	conn.sock.Close()
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		if c.replaced(conn) {
			return
		}
		select {
		case <-c.closed:
			return
		case <-time.After(wait):
		}
	}
}

// replaced reports whether there is nothing more to do about a connection that
// was lost.
func (c *Client) replaced(conn *connection) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.closed:
		return true
	default:
	}
	if c.conn != conn && c.conn != nil {
		return true
	}
	if len(c.ports) == 0 { // it had nothing left to do
		c.conn = nil
		return true
	}
	c.o.Logger.Warn("the gate of published ports ended; it is started again", "ports", len(c.ports))
	if err := c.startLocked(); err != nil {
		c.o.Logger.Error("cannot start the gate of published ports", "error", err)
		return false
	}
	return true
}

// launch starts a gate that survives us, and waits until it is ready.
func (c *Client) launch(flags ...string) error {
	cmd := exec.Command(c.o.Binary, slices.Concat(c.o.Args, flags, []string{"--root", c.o.Root})...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, c.o.Env...)
	return service.Start(context.Background(), cmd)
}

// Close ends the service of a port, and returns when nobody can connect any more
// through the gate's socket. Connections go on, or with abort are reset. It is
// idempotent.
func (c *Client) Close(k Key, abort bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.ports, k)
	if c.conn == nil {
		return nil
	}
	_, err := c.conn.ask(message{Op: opClose, Port: &Port{Proto: k.Proto, Host: k.Host}, Abort: abort}, nil)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil // and what it served, with it
	}
	return err
}

// Shut ends the connection; the gate goes on serving.
func (c *Client) Shut() error {
	c.mu.Lock()
	close(c.closed)
	var err error
	if c.conn != nil {
		err = c.conn.sock.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
	return err
}
