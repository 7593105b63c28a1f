package gate

import (
	"errors"
	"io"
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

// dialTimeout is how long a container may take to answer.
const dialTimeout = 30 * time.Second

// port is a socket that is served.
type port struct {
	s    *Server
	port atomic.Pointer[Port] // changed as a whole
	tcp  *net.TCPListener     // this or
	udp  *datagrams           // this

	mu    sync.Mutex
	conns map[*net.TCPConn]struct{} // of clients
	ended bool                      // abortAll was called
}

// newPort takes a duplicate of a bound socket.
func (s *Server) newPort(q Port, f *os.File) (*port, error) {
	p := &port{s: s, conns: map[*net.TCPConn]struct{}{}}
	p.port.Store(&q)
	switch q.Proto {
	case "tcp":
		l, err := net.FileListener(f)
		if err != nil {
			return nil, err
		}
		var ok bool
		if p.tcp, ok = l.(*net.TCPListener); !ok {
			l.Close()
			return nil, errdefs.Invalidf("gate: %s is no TCP socket", q.Host)
		}
		return p, nil
	case "udp":
		var err error
		p.udp, err = newDatagrams(p, f)
		return p, err
	}
	return nil, errdefs.NotImplementedf("gate: protocol %q", q.Proto)
}

// file returns a duplicate of the socket.
func (p *port) file() (*os.File, error) {
	if p.tcp != nil {
		return p.tcp.File()
	}
	return p.udp.conn.File()
}

func (p *port) close() {
	if p.tcp != nil {
		p.tcp.Close()
	} else {
		p.udp.close()
	}
}

func (p *port) serve() {
	if p.udp != nil {
		p.udp.serve()
		return
	}
	for {
		c, err := p.tcp.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
			// Others give some back; until then clients wait in the backlog.
			p.s.log.Warn("cannot accept", "port", p.port.Load().Host, "error", err)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-p.s.done:
				return
			}
			continue
		case err != nil: // the client has gone already
			continue
		}
		p.s.connection(1)
		go func() {
			defer p.s.connection(-1)
			p.carry(c)
		}()
	}
}

// carry connects a client with the container until both have said all.
func (p *port) carry(client *net.TCPConn) {
	if !p.note(client) {
		abort(client)
		return
	}
	defer p.forget(client)
	q := p.port.Load()
	from := addrPort(client.RemoteAddr())
	if !q.mayReach(from.Addr()) {
		abort(client)
		return
	}
	conn, err := q.dial(from)
	if err != nil {
		p.s.log.Debug("no way to the container", "port", q.Host, "client", from, "error", err)
		abort(client) // as if nobody listened
		return
	}
	server := conn.(*net.TCPConn)
	done := make(chan struct{})
	go func() {
		defer close(done)
		pass(client, server)
	}()
	pass(server, client)
	<-done
	client.Close()
	server.Close()
}

// note keeps a client's connection for abortAll, unless that was called.
func (p *port) note(c *net.TCPConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.conns[c] = struct{}{}
	}
	return !p.ended
}

func (p *port) forget(c *net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// abortAll resets the connections: the container has ended. What leads to it
// ends with the client's side.
func (p *port) abortAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	for c := range p.conns {
		abort(c)
	}
}

// pass moves what comes from one side to the other until its end, and says the
// end; the kernel copies nothing (TCPConn.ReadFrom is splice(2)).
func pass(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		abort(to)
		abort(from)
		return
	}
	_ = to.CloseWrite() // it may have gone
}

// abort resets a connection.
func abort(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}

// addrPort returns an address without the mapping of IPv4 into IPv6.
func addrPort(a net.Addr) netip.AddrPort {
	var at netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		at = a.AddrPort()
	case *net.UDPAddr:
		at = a.AddrPort()
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// dial connects to the container, from the client's address and port if it can
// be, else from another port of it.
func (p *Port) dial(client netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	if !p.keeps(client.Addr()) {
		return d.Dial(p.Proto, p.To.String())
	}
	d.Control = transparent(p.Mark)
	d.LocalAddr = p.addr(client)
	c, err := d.Dial(p.Proto, p.To.String())
	if taken(err) {
		d.LocalAddr = p.addr(netip.AddrPortFrom(client.Addr(), 0))
		c, err = d.Dial(p.Proto, p.To.String())
	}
	return c, err
}

// addr returns an address of the port's protocol.
func (p *Port) addr(at netip.AddrPort) net.Addr {
	if p.Proto == "udp" {
		return net.UDPAddrFromAddrPort(at)
	}
	return net.TCPAddrFromAddrPort(at)
}

// taken reports whether a client's address and port are in use: it is a program
// of this host, or connected with the container already.
func taken(err error) bool {
	return errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL)
}

// transparent lets a socket have an address that is not the host's.
func transparent(mark uint32) func(network, address string, c syscall.RawConn) error {
	return func(network, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			s := int(fd)
			level, opt := unix.SOL_IP, unix.IP_TRANSPARENT
			if network[len(network)-1] == '6' {
				level, opt = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
			}
			failed = errors.Join(
				os.NewSyscallError("setsockopt(IP_TRANSPARENT)", unix.SetsockoptInt(s, level, opt, 1)),
				os.NewSyscallError("setsockopt(SO_MARK)", unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_MARK, int(mark))),
				os.NewSyscallError("setsockopt(SO_REUSEADDR)", unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)),
			)
		})
		return errors.Join(err, failed)
	}
}
