package network

import (
	"log/slog"
	"net/netip"
	"slices"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
	"lade/internal/trace"
)

// lease is a container's use of a slot of this process's pool.
type lease struct {
	pool *pool
	slot *slot
	// harmless says that the container's processes cannot change the namespace
	// and end with the container.
	harmless bool
	// changed says that somebody else may have changed or entered it.
	changed bool
}

// reuse returns the slot of a container that has ended if another one may have
// it, and gives it up otherwise.
func (n *Networks) reuse(l *lease, c *containerRecord) *slot {
	if l == nil { // of an earlier process: we cannot look into the namespace
		n.cut(c)
		return nil
	}
	if l.harmless && !l.changed && len(c.Endpoints) == 1 {
		r := c.Endpoints[0]
		span := trace.Begin(trace.Net, "clean namespace", r.Link)
		err := l.pool.clean(l.slot, r.IPv4)
		if span.End(err) == nil {
			return l.slot
		}
		n.log.LogAttrs(l.pool.ctx, slog.LevelDebug, "a network namespace is not used again", slog.String("link", r.Link), slog.Any("because", err))
	}
	// What is still to be sent keeps a namespace alive for minutes, and its
	// interfaces would answer to addresses that somebody else gets.
	if l.slot.lingers() {
		n.cut(c)
	}
	l.slot.close()
	return nil
}

// cut removes the ends in the host of a container's interfaces.
func (n *Networks) cut(c *containerRecord) {
	for _, e := range c.Endpoints {
		if b := n.bridge(e.Network); b != nil && b.bridged() {
			n.delEnd(e.Link)
		}
	}
}

// clean brings a namespace back to what it was before a container had it, or
// fails. It takes for granted that no process is inside, and that those which
// were had no right to change anything (Harmless). What they could do without
// is to use it: so it must never have sent a packet, not even to itself, and no
// socket may be left. Then there are no connections, nobody's neighbour knows
// it, and the kernel remembers nothing of whom it talked to. What it received
// without asking counts as noise.
//
// Taking the last address from eth0 makes the kernel forget its routes and
// neighbours (fib_inetaddr_event in net/ipv4/fib_frontend.c).
func (p *pool) clean(s *slot, ip netip.Prefix) error {
	// One socket is ours: s.conn.
	if sockets, remembered, err := s.sockets.Count(); err != nil || sockets != 1 || remembered != 0 {
		return errdefs.Conflictf("%d sockets are left and %d connections remembered: %w", sockets-1, remembered, err)
	}
	host, err := p.host.Link(0, s.link)
	if err != nil {
		return err
	}
	if st := host.Stats; st.RxPackets != 0 || st.RxErrors != 0 || st.RxDropped != 0 {
		return errdefs.Conflictf("it has sent %d packets", st.RxPackets+st.RxErrors+st.RxDropped)
	}
	if !p.usual(host) || host.Master != int(p.bridge.Load()) {
		return errdefs.Conflictf("somebody changed %s", s.link)
	}
	defer p.borrow(s.conn)()
	var r netlink.Request
	r.DelAddr(s.device, ip)
	if err := s.conn.Do(&r); err != nil {
		return err
	}
	links, err := s.conn.Links()
	if err != nil {
		return err
	}
	found := 0
	for _, l := range links {
		st := l.Stats
		switch {
		case l.Index == loIndex && l.Name == "lo" && l.Up:
			found++
		case l.Index == s.device && l.Name == inside && p.usual(l):
			found++
		case l.Up: // a tunnel's template, which some modules put into every namespace, is down
			return errdefs.Conflictf("it has a link %s", l.Name)
		}
		if st.TxPackets != 0 || st.TxErrors != 0 || st.TxDropped != 0 {
			return errdefs.Conflictf("%s has sent %d packets", l.Name, st.TxPackets+st.TxErrors+st.TxDropped)
		}
	}
	if found != 2 {
		return errdefs.Conflictf("its links are not what they were")
	}
	routes, err := s.conn.AllRoutes()
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(routes, func(r netlink.Route) bool { return !r.Dst.Addr().IsLoopback() || r.Index != loIndex }); i >= 0 {
		return errdefs.Conflictf("it has a route to %s", routes[i].Dst)
	}
	s.noise = counters(host.Stats)
	return nil
}

// usual reports whether an end of a pair is as connect made it.
func (p *pool) usual(l netlink.Link) bool {
	return l.Up && l.Works && l.Kind == "veth" && l.MTU == p.mtu && l.Qdisc == "noqueue"
}
