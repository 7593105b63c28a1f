package server

import (
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/logs"
	"lade/internal/logs/target"
	"lade/internal/supervisor/wire"
)

const (
	// firstRetry and lastRetry are the pauses between attempts to connect.
	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
	// askAfter is how much must have been sent before the kernel is asked how much
	// of it the receiver has.
	askAfter = 256 << 10
	// An outlet outlives its process until everything is sent, but not for ever.
	lingerDropping = 5 * time.Second
	lingerBlocking = 5 * time.Minute
	lingerLook     = 20 * time.Millisecond
)

// outlet sends a container's output to its log's target. Its life:
//
//	connecting ──▶ up ──error, end──▶ waiting ──back-off──▶ connecting
//	                └── the process ended and everything is sent, or it is given up ──▶ closed
//
// What the receiver has not got for certain is kept and sent again after a
// reconnection: what it has got twice it can tell, what is lost it cannot. On
// a stream that is what the kernel still has: what was not acknowledged (SIOCOUTQ
// in tcp(7)), or on a unix stream not read, where it counts more than the bytes
// alone. A datagram is gone when it is sent.
type outlet struct {
	s    *Server
	t    *wire.Target
	enc  target.Encoder
	p    *process // whose output it sends; nil: the process has ended
	fd   int      // -1: waiting
	up   bool
	addr int           // of t.Addresses: the next one to try
	wait time.Duration // before the next attempt
	gone bool          // closed

	buf  []byte  // packets
	ends []int64 // where each of them ends
	// Positions in all that was ever to be sent: of buf, of what was sent, and of
	// what the receiver has.
	base, sent, done int64

	answers []byte // not understood yet
	relayed []byte // of a relay, as answers
	begun   int64  // where the connection with a relay began, a position as these
	dropped uint64
	until   time.Time // after its process has ended
}

// newOutlet begins to connect. Errors: NotImplemented for an unknown driver.
func (s *Server) newOutlet(p *process, t *wire.Target) (*outlet, error) {
	enc, err := target.New(t)
	if err != nil {
		return nil, err
	}
	if len(t.Addresses) == 0 {
		return nil, errdefs.Invalidf("log driver %q: no address", t.Driver)
	}
	o := &outlet{s: s, t: t, enc: enc, p: p, fd: -1}
	s.outlets[o] = struct{}{}
	o.connect()
	return o, nil
}

func (o *outlet) stream() bool { return o.t.Network == "tcp" || o.t.Network == "unix" }

// end is the position after the last packet.
func (o *outlet) end() int64 { return o.base + int64(len(o.buf)) }

// blocked reports whether the process has to wait.
func (o *outlet) blocked() bool {
	return !o.t.NonBlocking && o.end()-o.sent > int64(o.s.o.MaxQueue)
}

// take keeps a message until flush. It is a logs.Hooks.Sink.
func (o *outlet) take(m logs.Message) {
	full := func() bool { return o.t.NonBlocking && o.end()-o.sent+int64(len(m.Line)) > o.t.MaxBuffer }
	if full() && o.up {
		o.flush()
	}
	if full() {
		o.dropped++
		o.s.warn("log messages are dropped because their target is too slow", "container", o.t.Container, "driver", o.t.Driver, "so_far", o.dropped)
		return
	}
	o.enc.Encode(&m, func(packet []byte) {
		o.buf = append(o.buf, packet...)
		o.ends = append(o.ends, o.end())
	})
}

// connect begins a connection; a result that is not there yet comes as EPOLLOUT.
func (o *outlet) connect() {
	network, address := o.t.Network, o.t.Addresses[o.addr%len(o.t.Addresses)]
	o.addr++
	if o.t.TLS != nil {
		network, address = "unix", o.t.Relay
	}
	family, sa, err := addressOf(network, address)
	kind := unix.SOCK_STREAM
	if !o.stream() {
		kind = unix.SOCK_DGRAM
	}
	if err == nil {
		o.fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	}
	if err == nil {
		err = unix.Connect(o.fd, sa)
	}
	if err == nil {
		o.connected()
		return
	}
	if err == unix.EINPROGRESS {
		if err = o.s.poll.set(o.fd, o, unix.EPOLLOUT); err == nil {
			return
		}
	}
	o.broken(&os.PathError{Op: "connect", Path: address, Err: err})
}

// addressOf returns what connect(2) takes for a log's target.
func addressOf(network, address string) (family int, sa unix.Sockaddr, err error) {
	if network == "unix" || network == "unixgram" {
		return unix.AF_UNIX, &unix.SockaddrUnix{Name: address}, nil
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return 0, nil, err
	}
	family, sa = sockaddr(at)
	return family, sa, nil
}

func (o *outlet) connected() {
	o.up, o.answers = true, nil
	if o.t.TLS != nil && !o.greet() {
		return
	}
	o.flush()
}

// ready implements watcher.
func (o *outlet) ready(events uint32) {
	if !o.up {
		code, err := unix.GetsockoptInt(o.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		if err != nil {
			o.broken(os.NewSyscallError("connect", err))
			return
		}
		o.connected()
		return
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 && !o.listen() {
		return
	}
	if o.up {
		o.flush()
	}
}

// listen reads what the receiver says. It reports whether the connection is
// still there.
func (o *outlet) listen() bool {
	var b [4096]byte
	for {
		n, err := unix.Read(o.fd, b[:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return true
		case err != nil:
			o.broken(os.NewSyscallError("read", err))
			return false
		case n == 0 && o.stream():
			o.broken(nil)
			return false
		}
		if !o.hear(b[:n]) {
			return false
		}
		packets, used, ok := o.enc.Acks(o.answers)
		if !ok {
			o.broken(errdefs.Internalf("the receiver's answer makes no sense"))
			return false
		}
		o.answers = o.answers[:copy(o.answers, o.answers[used:])]
		if first := o.first(); packets > 0 && first < len(o.ends) {
			o.done = max(o.done, min(o.ends[min(first+packets, len(o.ends))-1], o.sent))
			o.compact()
		}
	}
}

// first returns the index of the first packet that the receiver does not have.
func (o *outlet) first() int {
	i, found := slices.BinarySearch(o.ends, o.done)
	if found {
		i++
	}
	return i
}

// flush sends what the receiver takes.
func (o *outlet) flush() {
	for o.up && o.sent < o.end() {
		from := o.buf[o.sent-o.base:]
		if !o.stream() {
			i, found := slices.BinarySearch(o.ends, o.sent)
			if found {
				i++
			}
			from = from[:o.ends[i]-o.sent]
		}
		n, err := unix.Write(o.fd, from)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			o.watch(unix.EPOLLIN | unix.EPOLLOUT)
			return
		case err == unix.EMSGSIZE && !o.stream(): // no attempt will be better
			o.s.warn("a log message is too long for its target", "container", o.t.Container, "driver", o.t.Driver)
			o.dropped++
			n = len(from)
		case err != nil:
			o.broken(os.NewSyscallError("write", err))
			return
		}
		o.sent += int64(n)
		if o.t.TLS == nil { // a relay takes it whether there is a target or not
			o.wait = 0
		}
	}
	if !o.up {
		return
	}
	o.settle(askAfter)
	o.watch(unix.EPOLLIN)
	if o.p != nil {
		o.p.watchOutput()
	}
}

func (o *outlet) watch(events uint32) {
	if err := o.s.poll.set(o.fd, o, events); err != nil {
		o.broken(err)
	}
}

// settle notes what the receiver has, if more than some bytes are in doubt.
func (o *outlet) settle(doubt int64) {
	switch {
	case o.enc.Acknowledges(), o.t.TLS != nil: // it is told
		return
	case !o.stream():
		o.done = o.sent
	case o.sent-o.done > doubt:
		left, err := unix.IoctlGetInt(o.fd, unix.SIOCOUTQ)
		if err != nil {
			return
		}
		o.done = max(o.done, o.sent-int64(left))
	}
	o.compact()
}

// compact forgets the packets that the receiver has.
func (o *outlet) compact() {
	i := o.first()
	if i == 0 || i < len(o.ends) && o.ends[i-1]-o.base < int64(len(o.buf))/2 {
		return
	}
	base := o.ends[i-1]
	o.buf = o.buf[:copy(o.buf, o.buf[base-o.base:])]
	o.ends = o.ends[:copy(o.ends, o.ends[i:])]
	o.base = base
	if len(o.buf) == 0 {
		o.buf, o.ends = nil, nil
	}
}

// broken gives the connection up and tries again after a while.
func (o *outlet) broken(err error) {
	if o.fd >= 0 {
		if o.up {
			o.settle(0)
		}
		o.s.poll.drop(o.fd)
		unix.Close(o.fd)
	}
	o.fd, o.up = -1, false
	o.sent = o.base // packets are sent whole, again if need be
	if i := o.first(); i > 0 {
		o.sent = o.ends[i-1]
	}
	if err != nil {
		o.s.warn("a log's target cannot be reached", "container", o.t.Container, "driver", o.t.Driver, "error", err)
	}
	o.wait = min(max(2*o.wait, firstRetry), lastRetry)
	o.s.poll.after(o.wait, func() {
		if !o.gone && o.fd < 0 {
			o.connect()
		}
	})
	if o.p != nil {
		o.p.watchOutput()
	}
}

// finish is called when the process has ended: the outlet goes on until
// everything is sent.
func (o *outlet) finish() {
	o.p = nil
	o.until = time.Now().Add(lingerBlocking)
	if o.t.NonBlocking {
		o.until = time.Now().Add(lingerDropping)
	}
	o.linger()
}

func (o *outlet) linger() {
	if o.gone {
		return
	}
	if o.up {
		o.flush()
	}
	if o.up {
		o.settle(0)
	}
	switch {
	case o.done == o.end():
		o.close()
	case time.Now().After(o.until):
		o.dropped += uint64(len(o.ends) - o.first())
		o.close()
	default:
		o.s.poll.after(lingerLook, o.linger)
	}
}

// close ends the outlet.
func (o *outlet) close() {
	if o.gone {
		return
	}
	o.gone, o.p = true, nil
	if o.dropped > 0 {
		o.s.log.Warn("log messages were lost", "container", o.t.Container, "driver", o.t.Driver, "messages", o.dropped)
	}
	if o.fd >= 0 {
		o.s.poll.drop(o.fd)
		unix.Close(o.fd)
		o.fd = -1
	}
	delete(o.s.outlets, o)
	o.s.checkIdle()
}

// outletState is an outlet in the state of an upgrade.
type outletState struct {
	Target  *wire.Target `json:"target"`
	Packets [][]byte     `json:"packets,omitempty"`
	Dropped uint64       `json:"dropped,omitempty"`
	Until   time.Time    `json:"until,omitzero"`
}

func (o *outlet) state() *outletState {
	if o.up {
		o.settle(0)
	}
	st := &outletState{Target: o.t, Dropped: o.dropped, Until: o.until}
	from := o.base
	for i, end := range o.ends {
		if i >= o.first() {
			st.Packets = append(st.Packets, o.buf[from-o.base:end-o.base])
		}
		from = end
	}
	return st
}

// restoreOutlet goes on with an outlet of our former program; p is nil if its
// process has ended.
func (s *Server) restoreOutlet(p *process, st *outletState) (*outlet, error) {
	o, err := s.newOutlet(p, st.Target)
	if err != nil {
		return nil, err
	}
	o.dropped, o.until = st.Dropped, st.Until
	for _, packet := range st.Packets {
		o.buf = append(o.buf, packet...)
		o.ends = append(o.ends, o.end())
	}
	if p == nil {
		o.linger()
	} else if o.up {
		o.flush()
	}
	return o, nil
}
