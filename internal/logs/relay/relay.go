package relay

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/supervisor/wire"
	"lade/internal/tlsfile"
)

const (
	// connectFor bounds connecting and shaking hands.
	connectFor = 20 * time.Second
	// askEvery is how often the kernel is asked what the target has, while it has
	// not everything.
	askEvery = 10 * time.Millisecond
	readLen  = 32 << 10
)

// Options configure Serve.
type Options struct {
	Idle   time.Duration // end after this time without a connection
	Logger *slog.Logger
}

// Serve answers on l until ctx ends, or nobody has been connected for o.Idle. It
// closes l and waits for its connections. Errors: of accept(2).
func Serve(ctx context.Context, l *net.UnixListener, o Options) error {
	var open sync.WaitGroup
	defer open.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var mu sync.Mutex
	connected := 0
	idle := time.AfterFunc(o.Idle, cancel)
	defer idle.Stop()
	count := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		if connected += n; connected == 0 {
			idle.Reset(o.Idle)
		} else {
			idle.Stop()
		}
	}
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		count(1)
		open.Go(func() {
			defer count(-1)
			defer context.AfterFunc(ctx, func() { c.Close() })()
			if err := relay(ctx, c); err != nil {
				o.Logger.Warn("a log is not sent", "error", err)
			}
		})
	}
}

// relay serves one log, and closes c.
func relay(ctx context.Context, c *net.UnixConn) error {
	defer c.Close()
	h, err := hello(c)
	if err != nil || h == nil {
		return err
	}
	up := &answers{c: c}
	t, sent, err := dial(ctx, h)
	if err != nil {
		up.send(wire.RelayError, []byte(err.Error()))
		return err
	}
	defer t.Close()
	var work sync.WaitGroup
	defer work.Wait()
	p := &progress{answers: up, sent: sent, more: make(chan struct{}, 1), ended: make(chan struct{})}
	work.Go(p.run)
	defer close(p.ended)
	work.Go(func() { // what the target says, to its end
		// Then there is no point in sending more. The other side of the loop below
		// ends, which tells the last that is known.
		defer func() {
			_ = c.CloseRead()                       // it is closed already
			_ = t.SetWriteDeadline(time.Unix(1, 0)) // as this
		}()
		b := make([]byte, readLen)
		for {
			n, err := t.Read(b)
			if n > 0 {
				up.send(wire.RelayData, b[:n])
			}
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
					up.send(wire.RelayError, []byte(err.Error()))
				}
				return
			}
		}
	})
	defer t.Close()
	defer p.tell()
	b, total := make([]byte, readLen), uint64(0)
	for {
		n, err := c.Read(b)
		if n > 0 {
			if _, err := t.Write(b[:n]); err != nil {
				up.send(wire.RelayError, []byte(err.Error()))
				return err
			}
			total += uint64(n)
			p.mark(total)
		}
		if err != nil {
			return nil // the supervisor has what it wanted, or is gone
		}
	}
}

// hello reads the first message; nil if the connection ended before.
func hello(c net.Conn) (*wire.RelayHello, error) {
	var b []byte
	for {
		h, more, err := wire.ParseRelayHello(b)
		if h != nil || err != nil {
			return h, err
		}
		next := make([]byte, more)
		if _, err := io.ReadFull(c, next); err != nil {
			return nil, nil
		}
		b = append(b, next...)
	}
}

// dial connects with the first target that answers.
func dial(ctx context.Context, h *wire.RelayHello) (*tls.Conn, *counter, error) {
	config, err := Config(&h.TLS)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectFor)
	defer cancel()
	failed := errdefs.Invalidf("a target without an address")
	for _, address := range h.Addresses {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			failed = err
			continue
		}
		counted := &counter{TCPConn: c.(*net.TCPConn)}
		t := tls.Client(counted, config)
		if err := t.HandshakeContext(ctx); err != nil {
			c.Close()
			failed = err
			continue
		}
		return t, counted, nil
	}
	return nil, nil, failed
}

// Config reads the files that t names. Errors: Invalid, with the file.
func Config(t *wire.TLS) (*tls.Config, error) {
	ca := t.CA
	if t.SkipVerify {
		ca = "" // whoever answers is believed
	}
	c, err := tlsfile.Client(ca, t.Cert, t.Key)
	if err != nil {
		return nil, err
	}
	c.ServerName, c.InsecureSkipVerify = t.Name, t.SkipVerify
	return c, nil
}

// counter counts what was given to the kernel.
type counter struct {
	*net.TCPConn
	n atomic.Int64
}

// Write implements net.Conn.
func (c *counter) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	c.n.Add(int64(n))
	return n, err
}

// acknowledged returns how much of it the target's kernel has.
func (c *counter) acknowledged() (int64, error) {
	given := c.n.Load() // first: what comes meanwhile is not acknowledged
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	left := 0
	if cerr := raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); cerr != nil {
		return 0, cerr
	}
	return given - int64(left), err
}

// answers sends to the supervisor, for several goroutines. A failure needs no
// handling: reading from it fails, too.
type answers struct {
	mu sync.Mutex
	c  net.Conn
}

func (a *answers) send(kind wire.RelayKind, data []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, _ = a.c.Write(wire.AppendRelay(nil, kind, data))
}

// progress tells the supervisor how far the target is.
type progress struct {
	*answers
	sent  *counter
	more  chan struct{} // a mark was set
	ended chan struct{}

	mu    sync.Mutex
	marks []mark
}

// mark says that so many bytes on the connection carry so many of the log.
type mark struct {
	given int64
	total uint64
}

func (p *progress) mark(total uint64) {
	p.mu.Lock()
	p.marks = append(p.marks, mark{p.sent.n.Load(), total})
	p.mu.Unlock()
	select {
	case p.more <- struct{}{}:
	default:
	}
}

func (p *progress) run() {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.more:
		case <-p.ended:
			return
		}
		for p.tell() {
			select {
			case <-tick.C:
			case <-p.ended:
				return
			}
		}
	}
}

// tell says what is new, and reports whether more is expected.
func (p *progress) tell() bool {
	has, err := p.sent.acknowledged()
	if err != nil {
		return false
	}
	p.mu.Lock()
	done := 0
	for done < len(p.marks) && p.marks[done].given <= has {
		done++
	}
	var total uint64
	if done > 0 {
		total = p.marks[done-1].total
		p.marks = append(p.marks[:0], p.marks[done:]...)
	}
	left := len(p.marks)
	p.mu.Unlock()
	if done > 0 {
		p.send(wire.RelayAck, binary.BigEndian.AppendUint64(nil, total))
	}
	return left > 0
}
