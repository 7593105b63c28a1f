package server

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/dns"
	"lade/internal/supervisor/wire"
)

const (
	// abroadFor is Options.Abroad unless that is set.
	abroadFor = 50 * time.Millisecond
	// awayFor is how long a host that was silent is not asked again.
	awayFor = 10 * time.Second
)

// across is a network that other hosts have, too: a socket on this host's address
// in it, where their supervisors ask for the names of our containers, and where we
// ask them. Only hosts are answered: a container does not have their addresses.
type across struct {
	s     *Server
	know  wire.Across
	view  dns.View // of this network alone
	peers []*peer
	fd    int // or -1
}

// peer is another host of a network.
type peer struct {
	at   netip.AddrPort
	away time.Time // it is not asked until then
}

// said returns what SetNames said; nil for nil.
func (a *across) said() *wire.Across {
	if a == nil {
		return nil
	}
	return &a.know
}

// stretch makes a network one of several hosts, or of this one only.
func (n *names) stretch(w *network, know *wire.Across) {
	if reflect.DeepEqual(w.across.said(), know) && (w.across == nil || w.across.fd >= 0) {
		return
	}
	if w.across != nil {
		w.across.close()
		w.across = nil
	}
	if know == nil {
		return
	}
	a := &across{s: n.s, know: *know, view: dns.View{Members: []dns.Member{{Network: &w.Network}}}, fd: -1}
	for _, at := range know.Peers {
		a.peers = append(a.peers, &peer{at: at})
	}
	w.across = a
	if !know.Here.IsValid() {
		return
	}
	if err := a.listen(); err != nil { // tried again with the next change
		n.s.log.Error("other hosts cannot ask for the names of a network", "address", know.Here, "error", err)
	}
}

// listen makes the socket. The address may come later, and go and come back.
func (a *across) listen() error {
	family, at := sockaddr(a.know.Here)
	fd, err := newSocket(family, unix.SOCK_DGRAM)
	if err != nil {
		return err
	}
	if family == unix.AF_INET {
		err = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1)
	} else {
		err = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
	}
	if err == nil {
		err = unix.Bind(fd, at)
	}
	if err == nil {
		err = a.s.poll.set(fd, a, unix.EPOLLIN)
	}
	if err != nil {
		closeFDs(fd)
		return err
	}
	a.fd = fd
	if a.s.names.out == nil {
		a.s.names.out = make([]byte, 0, 4096)
	}
	return nil
}

func (a *across) close() {
	if a.fd >= 0 {
		a.s.poll.drop(a.fd)
		closeFDs(a.fd)
		a.fd = -1
	}
}

// ready answers other hosts.
func (a *across) ready(uint32) {
	for range maxDatagrams {
		n, from, err := unix.Recvfrom(a.fd, a.s.names.in, 0)
		if err != nil {
			return
		}
		msg := a.s.names.in[:n]
		if !a.has(from) || n > maxQuestion {
			continue
		}
		reply, verdict := a.view.Answer(a.s.names.out[:0], msg, false)
		switch verdict {
		case dns.Ask:
			reply = dns.Unknown(a.s.names.out[:0], msg)
		case dns.Ignore:
			continue
		}
		_ = unix.Sendto(a.fd, reply, 0, from) // who does not take it asks again
	}
}

// has reports whether an address is another host's.
func (a *across) has(from unix.Sockaddr) bool {
	var ip netip.Addr
	switch from := from.(type) {
	case *unix.SockaddrInet4:
		ip = netip.AddrFrom4(from.Addr)
	case *unix.SockaddrInet6:
		ip = netip.AddrFrom16(from.Addr)
	}
	return slices.ContainsFunc(a.peers, func(p *peer) bool { return p.at.Addr() == ip })
}

// across returns that of one of the container's networks, or nil.
func (r *resolver) across(i int) *across {
	if w := r.s.names.networks[r.know.Networks[i].Network]; w != nil {
		return w.across
	}
	return nil
}

// wide reports whether one of the container's networks is on other hosts, too.
func (r *resolver) wide() bool {
	for i := range r.know.Networks {
		if r.across(i) != nil {
			return true
		}
	}
	return false
}

// goAbroad asks the other hosts that may know the name, and reports whether there
// are any. Those that do not answer in time are left alone for a while.
func (a *ask) goAbroad() bool {
	if !a.r.view.Wide {
		return false
	}
	members, reverse := a.r.view.Elsewhere(a.query)
	var legs []*leg
	for _, i := range members {
		w := a.r.across(i)
		if w == nil || reverse.IsValid() && !slices.ContainsFunc(w.know.Subnets, func(p netip.Prefix) bool { return p.Contains(reverse) }) {
			continue
		}
		for _, p := range w.peers {
			if a.began.Before(p.away) {
				continue
			}
			l := a.leg()
			l.peer = p
			legs = append(legs, l)
		}
	}
	if len(legs) == 0 {
		return false
	}
	a.abroad = true
	a.r.s.poll.after(cmp.Or(a.r.s.o.Abroad, abroadFor), a.comeHome)
	for _, l := range legs { // one that fails at once may end the question
		if !l.done {
			l.visit()
		}
	}
	return true
}

// visit asks another host, from the address that it knows us by.
func (l *leg) visit() {
	family, to := sockaddr(l.peer.at)
	fd, err := newSocket(family, unix.SOCK_DGRAM)
	l.send(fd, to, err)
}

// comeHome asks the servers outside if other hosts have not answered.
func (a *ask) comeHome() {
	if a.ended || !a.abroad {
		return
	}
	for _, l := range a.legs {
		l.peer.away = time.Now().Add(awayFor)
		l.close()
	}
	a.legs = nil
	a.outside()
}
