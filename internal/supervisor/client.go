package supervisor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/supervisor/wire"
)

// Options say where the supervisor is and how to start one.
type Options struct {
	Root   string // its directory, on a tmpfs
	Binary string // of lade-supervisor
	// Args are given to the binary besides --root: --init PATH and the like.
	Args    []string
	Logger  *slog.Logger
	Handler Handler // nil: nobody is told
}

// Handler is told what happens, by one goroutine, in order. It may call the
// Client. An Exited may come before the caller of Start or Exec has seen its
// answer.
type Handler interface {
	Exited(wire.Exited)
	OOM(id string)
	// Lost is the last call: the supervisor is gone, or being upgraded. It is not
	// called after Close.
	Lost(err error)
}

// deaf is the Handler of who gave none.
type deaf struct{}

func (deaf) Exited(wire.Exited) {}
func (deaf) OOM(string)         {}
func (deaf) Lost(error)         {}

// StartError is a failed start of which the command is to blame.
type StartError struct {
	Code int // the exit code that it stands for: 126, 127 or 128
	Err  error
}

// Error returns the message for the user.
func (e *StartError) Error() string { return e.Err.Error() }

// Unwrap returns the classified error.
func (e *StartError) Unwrap() error { return e.Err }

// NotSentError says that the connection was lost before a request was sent, or
// before the supervisor had read it: it has not begun it.
type NotSentError struct{ Err error }

// Error returns the reason.
func (e *NotSentError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *NotSentError) Unwrap() error { return e.Err }

// Started is a started process and duplicates of what the supervisor holds of
// it, to be kept for Adopt. The caller must Close.
type Started struct {
	Pid       int
	StartedAt time.Time
	// Prepare and Program are the times before clone3(2) and from there to
	// execve(2).
	Prepare, Program time.Duration
	// Any of them may be nil. Reading or writing them would take from the
	// supervisor.
	Pidfd, Console, Stdin, Stdout, Stderr *os.File
}

// Close closes the descriptors. It may be called more than once.
func (s *Started) Close() {
	for _, f := range []*os.File{s.Pidfd, s.Console, s.Stdin, s.Stdout, s.Stderr} {
		if f != nil {
			f.Close()
		}
	}
}

// answer is what a request got.
type answer struct {
	typ   wire.Type
	body  []byte
	files []*os.File
	err   error // of the connection
}

// Client is a connection with the supervisor.
type Client struct {
	o    Options
	log  *slog.Logger
	sock *os.File
	raw  rawConn

	sendMu sync.Mutex // held while sending, so that frames do not mix

	mu      sync.Mutex // guards what follows; never held while sending
	next    uint32
	pending map[uint32]chan answer
	last    uint32 // the request that was sent last, or is being
	lost    error  // why there will be no more answers
	closed  bool

	events eventQueue
	ended  sync.WaitGroup
}

// rawConn is the part of syscall.RawConn that is used.
type rawConn interface {
	Read(f func(fd uintptr) (done bool)) error
	Write(f func(fd uintptr) (done bool)) error
}

// newClient says Hello on a connected socket. Errors: io.EOF if the
// supervisor is just ending.
func newClient(ctx context.Context, o Options, socket int) (*Client, wire.Welcome, error) {
	c := &Client{o: o, log: o.Logger, sock: os.NewFile(uintptr(socket), wire.SocketName), pending: map[uint32]chan answer{}}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	raw, err := c.sock.SyscallConn()
	if err != nil {
		c.sock.Close()
		return nil, wire.Welcome{}, err
	}
	c.raw = raw
	c.events.init()
	c.ended.Go(c.receive)
	var w wire.Welcome
	if err := c.call(ctx, &wire.Hello{Version: wire.Version}, nil, wire.TypeWelcome, &w); err != nil {
		c.Close()
		return nil, wire.Welcome{}, err
	}
	c.ended.Go(c.handle) // not before: of a client that never was, the Handler hears nothing
	return c, w, nil
}

// Close ends the connection; the supervisor goes on. The Handler is not called
// any more once Close has returned, so it must not call Close.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	err := c.sock.Close()
	c.ended.Wait()
	return err
}

// receive hands frames to those who wait for them.
//
// ECONNRESET says, once, that the supervisor's end was closed with packets in it
// that were not read, of which the last that was sent is one; what it had answered
// is still to come. Source: unix_release_sock in net/unix/af_unix.c.
func (c *Client) receive() {
	buf := make([]byte, wire.PacketLen)
	var failed error
	unread := false
	for failed == nil {
		var f *wire.Frame
		err := c.raw.Read(func(fd uintptr) bool {
			f, failed = wire.Receive(int(fd), buf, unix.MSG_DONTWAIT)
			return failed != unix.EAGAIN
		})
		if err != nil {
			failed = err
		}
		switch {
		case failed == nil:
			c.received(f)
		case failed == unix.ECONNRESET && !unread:
			failed, unread = nil, true
		}
	}
	if failed == io.EOF {
		failed = errdefs.Unavailablef("the supervisor has closed the connection: %w", io.EOF)
	} else {
		failed = errdefs.Unavailablef("the connection with the supervisor is lost: %w", failed)
	}
	c.mu.Lock()
	c.lost = failed
	pending, last := c.pending, c.last
	c.pending = nil
	closed := c.closed
	c.mu.Unlock()
	for id, ch := range pending {
		if unread && id == last {
			ch <- answer{err: &NotSentError{failed}}
		} else {
			ch <- answer{err: failed}
		}
	}
	c.events.end(failed, closed)
}

// received takes one frame.
func (c *Client) received(f *wire.Frame) {
	defer f.Close()
	if f.Request == 0 {
		switch f.Type {
		case wire.TypeExited:
			var e wire.Exited
			if err := f.Decode(&e); err == nil {
				c.events.add(e)
			}
		case wire.TypeOOM:
			var e wire.OOM
			if err := f.Decode(&e); err == nil {
				c.events.add(e)
			}
		default: // of a later supervisor
			c.log.Debug("unknown event of the supervisor", "type", f.Type)
		}
		return
	}
	c.mu.Lock()
	ch := c.pending[f.Request]
	delete(c.pending, f.Request)
	c.mu.Unlock()
	if ch == nil { // its context has ended
		return
	}
	a := answer{typ: f.Type, body: bytes.Clone(f.Body)}
	for i := wire.FD(1); ; i++ {
		fd, err := f.File(i)
		if err != nil {
			break
		}
		a.files = append(a.files, os.NewFile(uintptr(fd), "container"))
	}
	ch <- a
}

// handle calls the Handler.
func (c *Client) handle() {
	if c.o.Handler == nil {
		c.o.Handler = deaf{}
	}
	for {
		switch e := c.events.take().(type) {
		case wire.Exited:
			c.o.Handler.Exited(e)
		case wire.OOM:
			c.o.Handler.OOM(e.ID)
		case error:
			c.o.Handler.Lost(e)
			return
		case nil:
			return
		}
	}
}

// call sends a request and waits for its answer, of type want, decoded into
// out.
func (c *Client) call(ctx context.Context, msg any, files []*os.File, want wire.Type, out any) error {
	_, err := c.callFiles(ctx, msg, files, want, out)
	return err
}

// callFiles is call for answers that carry descriptors.
func (c *Client) callFiles(ctx context.Context, msg any, files []*os.File, want wire.Type, out any) ([]*os.File, error) {
	ch := make(chan answer, 1)
	c.mu.Lock()
	if c.lost != nil {
		defer c.mu.Unlock()
		return nil, &NotSentError{c.lost}
	}
	for c.next++; c.next == 0 || c.pending[c.next] != nil; c.next++ { // 0 is for events
	}
	id := c.next
	c.pending[id] = ch
	c.mu.Unlock()
	if err := c.send(id, msg, files); err != nil {
		c.mu.Lock()
		delete(c.pending, id)
		c.mu.Unlock()
		return nil, err
	}
	select {
	case a := <-ch:
		return decode(a, want, out)
	case <-ctx.Done():
		c.mu.Lock()
		_, waiting := c.pending[id]
		delete(c.pending, id)
		c.mu.Unlock()
		if !waiting { // it came just now, or the connection was lost
			a := <-ch
			for _, f := range a.files {
				f.Close()
			}
		}
		return nil, context.Cause(ctx)
	}
}

func decode(a answer, want wire.Type, out any) (files []*os.File, err error) {
	defer func() {
		if err != nil {
			for _, f := range a.files {
				f.Close()
			}
		}
	}()
	if a.err != nil {
		return nil, a.err
	}
	f := wire.Frame{Header: wire.Header{Type: a.typ}, Body: a.body}
	switch {
	case a.typ == wire.TypeError:
		var e wire.Error
		if err := f.Decode(&e); err != nil {
			return nil, err
		}
		if e.Code != 0 {
			return nil, &StartError{Code: e.Code, Err: e.Err()}
		}
		return nil, e.Err()
	case a.typ != want:
		return nil, errdefs.Internalf("the supervisor answered %v where %v was due", a.typ, want)
	}
	return a.files, f.Decode(out)
}

// send sends a frame and waits while the socket is full.
func (c *Client) send(id uint32, msg any, files []*os.File) error {
	return withFDs(files, nil, func(fds []int) error {
		p, err := wire.NewPacket(id, msg, fds)
		if err != nil {
			return err
		}
		defer p.Close()
		c.sendMu.Lock()
		defer c.sendMu.Unlock()
		c.mu.Lock()
		c.last = id
		c.mu.Unlock()
		var failed error
		err = c.raw.Write(func(fd uintptr) bool {
			failed = p.Send(int(fd), unix.MSG_DONTWAIT)
			return failed != unix.EAGAIN
		})
		if err = errors.Join(err, failed); err != nil {
			return &NotSentError{errdefs.Unavailablef("the connection with the supervisor is lost: %w", err)}
		}
		return nil
	})
}

// withFDs calls f with the descriptors of files, which stay open and keep
// their mode meanwhile: os.File.Fd would make some of them block.
func withFDs(files []*os.File, fds []int, f func(fds []int) error) error {
	if len(files) == 0 {
		return f(fds)
	}
	raw, err := files[0].SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = withFDs(files[1:], append(fds, int(fd)), f) })
	if err != nil {
		return err
	}
	return failed
}
