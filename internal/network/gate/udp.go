package gate

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

const (
	// How long a flow is kept without datagrams, before and after the first
	// answer: as connection tracking does.
	unanswered = 30 * time.Second
	answered   = 120 * time.Second
	// maxFlows bounds the clients of one port. A client more gets no answer until
	// another one's flow ends.
	maxFlows    = 4096
	maxDatagram = 64 << 10
)

// datagrams serves a UDP socket: a flow for each client and address of the host
// that it sends to.
type datagrams struct {
	p    *port
	conn *net.UDPConn
	six  bool

	mu     sync.Mutex
	flows  map[ends]*flow
	closed bool
}

// ends are the client, and the address of the host that answers must come from.
type ends struct {
	client netip.AddrPort
	host   netip.Addr
}

// flow is what one client and the container say to each other.
type flow struct {
	conn *net.UDPConn // to the container
	to   netip.AddrPort
	last atomic.Int64 // when there was a datagram, in Unix nanoseconds
}

func newDatagrams(p *port, f *os.File) (*datagrams, error) {
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UDPConn)
	if !ok {
		c.Close()
		return nil, errdefs.Invalidf("gate: %s is no UDP socket", p.port.Load().Host)
	}
	d := &datagrams{p: p, conn: u, six: p.port.Load().Host.Addr().Is6(), flows: map[ends]*flow{}}
	raw, err := u.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			if d.six {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
			} else {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
			}
		})
	}
	if err != nil {
		u.Close()
		return nil, err
	}
	return d, nil
}

func (d *datagrams) close() {
	d.conn.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, f := range d.flows {
		f.conn.Close()
	}
}

func (d *datagrams) serve() {
	buf, oob := make([]byte, maxDatagram), make([]byte, 128)
	for {
		n, oobn, _, from, err := d.conn.ReadMsgUDPAddrPort(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // an answer did not arrive
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		q := d.p.port.Load()
		if !q.mayReach(from.Addr()) {
			continue
		}
		if f := d.flow(q, ends{from, destination(oob[:oobn])}); f != nil {
			f.last.Store(time.Now().UnixNano())
			_, _ = f.conn.Write(buf[:n]) // as datagrams are: it may be lost
		}
	}
}

// flow returns that of a client; nil when it cannot have one.
func (d *datagrams) flow(q *Port, e ends) *flow {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.flows[e]; f != nil && f.to == q.To {
		return f
	} else if f != nil { // the port leads elsewhere now
		f.conn.Close()
		delete(d.flows, e)
	}
	if d.closed || len(d.flows) >= maxFlows {
		return nil
	}
	conn, err := q.dial(e.client)
	if err != nil {
		d.p.s.log.Debug("no way to the container", "port", q.Host, "client", e.client, "error", err)
		return nil
	}
	f := &flow{conn: conn.(*net.UDPConn), to: q.To}
	f.last.Store(time.Now().UnixNano())
	d.flows[e] = f
	d.p.s.wg.Go(func() {
		d.answer(f, e)
		conn.Close()
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.flows[e] == f {
			delete(d.flows, e)
		}
	})
	return f
}

// answer passes the container's datagrams to the client until there were none in
// either direction for a while.
func (d *datagrams) answer(f *flow, e ends) {
	raw, err := f.conn.SyscallConn()
	if err != nil {
		return
	}
	limit := unanswered
	for {
		quiet := time.Since(time.Unix(0, f.last.Load()))
		if quiet >= limit {
			return
		}
		_ = f.conn.SetReadDeadline(time.Now().Add(limit - quiet))
		err := d.pass(raw, e)
		switch {
		case err == nil:
			limit = answered
			f.last.Store(time.Now().UnixNano())
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, unix.ECONNREFUSED): // nobody listens there now
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return
		}
	}
}

// buffers are used while a datagram is under way only: there are more flows than
// memory for a buffer each.
var buffers = sync.Pool{New: func() any { return new([maxDatagram]byte) }}

// pass waits for a datagram of the container and sends it to the client.
func (d *datagrams) pass(raw syscall.RawConn, e ends) error {
	var failed error
	err := raw.Read(func(fd uintptr) bool {
		buf := buffers.Get().(*[maxDatagram]byte)
		defer buffers.Put(buf)
		n, err := unix.Read(int(fd), buf[:])
		if err == unix.EAGAIN {
			return false
		}
		if failed = err; err == nil {
			_, _, _ = d.conn.WriteMsgUDPAddrPort(buf[:n], source(e.host), e.client)
		}
		return true
	})
	if err != nil {
		return err
	}
	return failed
}

// destination returns the address of the host that a datagram was for.
func destination(oob []byte) netip.Addr {
	all, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}
	}
	for _, m := range all {
		switch {
		// struct in_pktinfo: the local address is at 4; struct in6_pktinfo: at 0.
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(m.Data[4:8]))
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16([16]byte(m.Data[:16]))
		}
	}
	return netip.Addr{}
}

// source makes an answer come from an address of the host.
func source(a netip.Addr) []byte {
	switch {
	case a.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: a.As4()})
	case a.Is6():
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: a.As16()})
	}
	return nil
}
