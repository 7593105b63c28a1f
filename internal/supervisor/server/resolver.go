package server

import (
	"bytes"
	"errors"
	"maps"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/dns"
	"lade/internal/errdefs"
	"lade/internal/linux/netns"
	"lade/internal/supervisor/wire"
)

// resolver is a container's name server: two sockets in its network namespace.
type resolver struct {
	s        *Server
	id       string // of the container
	know     wire.Resolver
	view     dns.View
	servers  []netip.Addr // know.Servers
	udp, tcp int          // or -1
	spare    []int        // UDP sockets of the namespace that were never used
	asks     int          // questions under way outside
	clients  int          // over TCP
	closed   bool
}

// maxServers is how many servers are asked: MAXNS of resolv.conf(5).
const maxServers = 3

// newResolver makes a name server without sockets. Errors: Invalid.
func (s *Server) newResolver(id string, know *wire.Resolver) (*resolver, error) {
	r := &resolver{s: s, id: id, udp: -1, tcp: -1}
	return r, r.set(know)
}

// set replaces what the server knows. Errors: Invalid, and then nothing changed.
func (r *resolver) set(know *wire.Resolver) error {
	var servers []netip.Addr
	for _, text := range know.Servers {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return errdefs.Invalidf("bad nameserver address: %s", text)
		}
		if a = a.Unmap(); string(a.AsSlice()) != resolverIP && len(servers) < maxServers { // not ourselves
			servers = append(servers, a)
		}
	}
	r.s.names.use(know.Networks, 1)
	r.s.names.use(r.know.Networks, -1)
	view := dns.View{Bare: know.Bare}
	for _, n := range know.Networks {
		m := dns.Member{Network: &r.s.names.network(n.Network).Network, Links: make(map[string]string, len(n.Links))}
		for name, to := range n.Links {
			m.Links[strings.ToLower(name)] = to
		}
		view.Members = append(view.Members, m)
	}
	r.know, r.view, r.servers = *know, view, servers
	return nil
}

// listen makes the sockets, in the network namespace of the calling thread.
func (r *resolver) listen() (err error) {
	defer func() {
		if err != nil {
			err = errdefs.Internalf("name server of container %s: %w", r.id, err)
		}
	}()
	if ns, err := os.Readlink(threadNetNS); err != nil || ns == r.s.names.ours {
		return errors.Join(err, errdefs.Conflictf("it has no network namespace of its own"))
	}
	failed := r.bind(0)
	if failed == nil {
		failed = redirect(boundPort(r.udp), boundPort(r.tcp))
	}
	if failed == nil {
		return nil
	}
	// No nftables. Then the container has to do without the port.
	r.unbind()
	if err := r.bind(53); err != nil {
		return errors.Join(failed, err)
	}
	r.s.log.Warn("a container cannot have a name server of its own on port 53, because there is no nftables", "container", r.id, "error", failed)
	return nil
}

// inside calls f on a thread in the network namespace of fd, which is one, or is a
// pidfd of a process in it.
//
// Source: setns(2), for a pidfd from Linux 5.8 on.
func inside(fd int, f func() error) error {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("fcntl(F_DUPFD_CLOEXEC)", err)
	}
	ns := os.NewFile(uintptr(dup), "netns")
	defer ns.Close()
	return netns.Do(ns, f)
}

// bind makes the sockets; port 0 is any.
func (r *resolver) bind(port int) (err error) {
	at := &unix.SockaddrInet4{Port: port, Addr: [4]byte([]byte(resolverIP))}
	if r.udp, err = newSocket(unix.AF_INET, unix.SOCK_DGRAM); err == nil {
		r.tcp, err = newSocket(unix.AF_INET, unix.SOCK_STREAM)
	}
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(r.udp, at))
	}
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(r.tcp, at))
	}
	if err == nil {
		err = os.NewSyscallError("listen", unix.Listen(r.tcp, 64))
	}
	if err != nil {
		r.unbind()
	}
	return err
}

func (r *resolver) unbind() {
	closeFDs(r.udp, r.tcp)
	r.udp, r.tcp = -1, -1
}

func newSocket(family, typ int) (int, error) {
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	return fd, os.NewSyscallError("socket", err)
}

// boundPort returns the port of a bound IPv4 socket.
func boundPort(fd int) uint16 {
	sa, err := unix.Getsockname(fd)
	if at, ok := sa.(*unix.SockaddrInet4); ok && err == nil {
		return uint16(at.Port)
	}
	return 0
}

// serve begins to answer, in the loop.
func (r *resolver) serve() {
	if r.s.names.out == nil {
		r.s.names.out = make([]byte, 0, 4096)
	}
	err := r.s.poll.set(r.udp, (*udpWatch)(r), unix.EPOLLIN)
	if err == nil {
		err = r.s.poll.set(r.tcp, (*tcpWatch)(r), unix.EPOLLIN)
	}
	if err != nil {
		r.s.log.Error("a container's name server does not answer", "container", r.id, "error", err)
	}
}

// close ends the server and everything it has under way. It may be called for
// nil, before serve, and twice.
func (r *resolver) close() {
	if r == nil || r.closed {
		return
	}
	r.closed = true
	for _, fd := range []int{r.udp, r.tcp} {
		if fd >= 0 {
			r.s.poll.drop(fd)
		}
	}
	r.unbind()
	maps.DeleteFunc(r.s.names.clients, func(c *nameClient, _ struct{}) bool {
		if c.r == r {
			c.shut()
		}
		return c.r == r
	})
	maps.DeleteFunc(r.s.names.asks, func(a *ask, _ struct{}) bool {
		if a.r == r {
			a.end()
		}
		return a.r == r
	})
	r.dropSpare()
	r.s.names.use(r.know.Networks, -1)
}

func (r *resolver) dropSpare() {
	closeFDs(r.spare...)
	r.spare = nil
}

// maxDatagrams is how many questions are read before others have their turn.
const maxDatagrams = 16

// udpWatch is a resolver in its role as the watcher of its UDP socket.
type udpWatch resolver

func (w *udpWatch) ready(uint32) {
	r := (*resolver)(w)
	for range maxDatagrams {
		n, from, err := unix.Recvfrom(r.udp, r.s.names.in, 0)
		if err != nil {
			return // EAGAIN; what else there may be is of one datagram
		}
		r.received(r.s.names.in[:n], from, nil)
	}
}

// received answers a message, or asks others. It came from an address over UDP,
// or from a client over TCP.
func (r *resolver) received(msg []byte, from unix.Sockaddr, client *nameClient) {
	if len(msg) > maxQuestion {
		r.reply(dns.Refused(r.s.names.out[:0], msg), from, client)
		return
	}
	r.view.Wide = r.wide()
	reply, verdict := r.view.Answer(r.s.names.out[:0], msg, client != nil)
	switch verdict {
	case dns.Answered:
		r.reply(reply, from, client)
	case dns.Ask:
		r.ask(bytes.Clone(msg), from, client)
	case dns.Ignore:
		if client != nil {
			client.close()
		}
	}
}

func (r *resolver) reply(msg []byte, from unix.Sockaddr, client *nameClient) {
	if client != nil {
		client.send(msg)
	} else if len(msg) > 0 {
		_ = unix.Sendto(r.udp, msg, 0, from) // who does not take it asks again
	}
}

// setResolver gives a running container a name server, or changes what it knows.
func (s *Server) setResolver(req *request, m *wire.SetResolver) error {
	c, err := s.running(m.ID)
	if err != nil {
		return err
	}
	switch {
	case c.listening: // once it is there
		c.resolved = append(c.resolved, func() {
			if err := s.setResolver(req, m); err != nil {
				req.fail(err)
			}
		})
	case c.resolver != nil && m.Resolver != nil:
		req.fail(c.resolver.set(m.Resolver))
	case c.resolver != nil:
		c.resolver.close()
		c.resolver = nil
		c.inside(direct, req.fail)
	case m.Resolver == nil:
		req.ok()
	default:
		r, err := s.newResolver(c.id, m.Resolver)
		if err != nil {
			return err
		}
		c.inside(r.listen, func(err error) {
			if err == nil && c.init.ended {
				err = errdefs.NotFoundf("container %s is not running", c.id)
			}
			if err == nil {
				c.resolver = r
				r.serve()
			} else {
				r.close()
			}
			req.fail(err)
		})
	}
	return nil
}

// inside calls f, in a goroutine, in the network namespace of the container, which
// runs, and then done in the loop. What is asked of its name server meanwhile waits.
func (c *container) inside(f func() error, done func(error)) {
	c.listening = true
	c.busy++
	go func() {
		err := inside(c.init.pidfd, f)
		c.s.poll.post(func() {
			c.busy--
			c.listening = false
			done(err)
			next := c.resolved
			c.resolved = nil
			for _, f := range next {
				f()
			}
			c.release()
		})
	}()
}

// state describes what survives an upgrade: clients over TCP connect again.
func (r *resolver) state() *resolverState {
	rs := &resolverState{Know: r.know, UDP: r.udp, TCP: r.tcp}
	for a := range r.s.names.asks {
		if from, ok := a.from.(*unix.SockaddrInet4); ok && a.r == r {
			rs.Asks = append(rs.Asks, askState{Query: a.query, Addr: from.Addr, Port: from.Port})
		}
	}
	return rs
}

// restore goes on with what state described, and asks again.
func (r *resolver) restore(rs *resolverState) {
	r.udp, r.tcp = rs.UDP, rs.TCP
	r.serve()
	for _, a := range rs.Asks {
		r.ask(a.Query, &unix.SockaddrInet4{Addr: a.Addr, Port: a.Port}, nil)
	}
}
