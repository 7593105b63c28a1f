package network

import (
	"cmp"
	"net/netip"
	"slices"

	"lade/internal/errdefs"
	"lade/internal/iprange"
	"lade/internal/linux/netlink"
)

// A container has one default route of each family: through the network with
// the highest priority, and of several with the same through the one whose name
// comes first. Its published ports lead to its address in that network.

// families are false for IPv4 and true for IPv6.
func families() [2]bool { return [2]bool{false, true} }

// rules reports whether a family has a table.
func (c *Config) rules(six bool) bool {
	if six {
		return !c.NoRules6
	}
	return !c.NoRules4
}

// gatewayOf returns the endpoint through which a container's packets of a family
// leave, with the gateway; nil when there is none.
func (n *Networks) gatewayOf(c *containerRecord, six bool) (*endpointRecord, netip.Addr) {
	var best *endpointRecord
	var via netip.Addr
	for _, e := range c.Endpoints {
		b := n.bridge(e.Network)
		if b == nil || b.internal || !e.addr(six).IsValid() {
			continue
		}
		gw := b.gatewayFor(e, six)
		if gw.IsValid() && (best == nil || cmp.Or(cmp.Compare(best.Priority, e.Priority), cmp.Compare(e.Network, best.Network)) < 0) {
			best, via = e, gw
		}
	}
	return best, via
}

// gatewayFor returns the gateway that an endpoint has: the network's, or the one
// that came with the interface; zero: none.
func (b *bridge) gatewayFor(e *endpointRecord, six bool) netip.Addr {
	if b.foreign == nil {
		if s := b.side(six).of(e.addr(six)); s != nil {
			return s.gateway
		}
		return netip.Addr{}
	}
	if six {
		return e.Via[1]
	}
	return e.Via[0]
}

// reroute changes the default routes of a container from what they are with old
// to what they are to be with c. conn works in its namespace, index finds its
// interfaces there.
func (n *Networks) reroute(conn *netlink.Conn, old, c *containerRecord) error {
	var r netlink.Request
	for _, six := range families() {
		was, wasVia := n.gatewayOf(old, six)
		now, via := n.gatewayOf(c, six)
		switch {
		case now == nil && was == nil, now != nil && was != nil && now.Network == was.Network:
		case now == nil:
			l, err := conn.LinkState(0, was.Inside)
			if err != nil {
				return err
			}
			r.DelDefaultRoute(l.Index, wasVia)
		default:
			l, err := conn.LinkState(0, now.Inside)
			if err != nil {
				return err
			}
			r.SetDefaultRoute(l.Index, via)
		}
	}
	return conn.Do(&r)
}

// portsOf returns the endpoint whose address a container's published ports of a
// family lead to: that of its default route, if its network can publish any; nil
// otherwise. In networks without a bridge -p has no effect, as in Docker.
func (n *Networks) portsOf(c *containerRecord, six bool) *endpointRecord {
	e, _ := n.gatewayOf(c, six)
	if e == nil || !n.bridge(e.Network).bridged() {
		return nil
	}
	return e
}

// rules returns what the firewall has to know of a container: where its
// published ports lead, and which of its own ports a routed network opens.
func (n *Networks) rules(c *containerRecord) published {
	p := newPublished()
	for _, b := range c.Ports {
		to, ok := n.leadsTo(c, b)
		switch {
		case !ok:
		case b.Policy == PolicyGate:
			if n.c.rules(b.HostIP.Is6()) {
				p.gated[b.host()] = true
			}
		case b.From != nil:
			for _, r := range sources(b.From, b.HostIP.Is6()) {
				p.from[limited{b.host(), r}] = to
			}
		default:
			p.to[b.host()] = to
		}
	}
	p.gather()
	for _, six := range families() {
		e := n.portsOf(c, six)
		if e == nil || !n.direct(n.bridge(e.Network).side(six).mode) {
			continue
		}
		for _, a := range c.Asked {
			own := hostPort{a.Proto, netip.AddrPortFrom(e.addr(six), a.Port)}
			if a.From == nil {
				p.open[own] = true
				continue
			}
			for _, r := range sources(a.From, six) {
				p.from[limited{own, r}] = own.AddrPort
			}
		}
	}
	return p
}

// direct reports whether published ports of a network with a gateway mode are open
// at the containers' own addresses.
func (n *Networks) direct(mode string) bool {
	return mode == modeRouted || mode == modeNAT && n.c.Direct
}

// sources returns the ranges of one family; they do not overlap.
func sources(all []iprange.Range, six bool) []iprange.Range {
	return slices.DeleteFunc(iprange.Merge(all), func(r iprange.Range) bool { return r.First.Is6() != six })
}

// leadsTo returns the container's address and port behind a port of the host:
// where its default route is. The gate can also lead from IPv6 to IPv4.
func (n *Networks) leadsTo(c *containerRecord, b binding) (netip.AddrPort, bool) {
	six := b.HostIP.Is6()
	e := n.portsOf(c, six)
	if e == nil && six && b.Policy == PolicyGate {
		six = false
		e = n.portsOf(c, six)
	}
	if e == nil {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(e.addr(six), b.Port), true
}

// publish binds the ports of the host that a container asked for and that its
// gateways allow, as far as they are not bound. steps takes them back, also
// after an error, which is in Docker's words.
func (n *Networks) publish(c *containerRecord, steps *undo) error {
	type one struct {
		of  int
		six bool
	}
	bound := map[one]uint16{}
	c.Ports = slices.Grow(c.Ports, len(c.Asked)) // there can be thousands
	for _, b := range c.Ports {
		bound[one{b.Of, b.HostIP.Is6()}] = b.HostPort
	}
	for i, p := range c.Asked {
		var at []place
		for _, six := range families() {
			if port, ok := bound[one{i, six}]; ok { // the other family gets the same port
				p.HostPort, p.HostPortEnd = port, 0
				continue
			}
			if to, ok := n.publishedAt(c, p, six); ok {
				at = append(at, to)
			}
		}
		got, err := n.ports.bindAll(p, at)
		if err != nil {
			return err
		}
		for _, b := range got {
			b.Of = i
			steps.add(func() { n.ports.release(b.host(), b.Served) })
			c.Ports = append(c.Ports, b)
		}
	}
	return nil
}

// publishedAt returns where a port is published in a family, and whether it is.
func (n *Networks) publishedAt(c *containerRecord, p Publish, six bool) (at place, ok bool) {
	e := n.portsOf(c, six)
	across := false
	if e == nil && six && p.HostIP.Is6() {
		e = n.portsOf(c, false)
		across = true
	}
	if e == nil {
		return at, false
	}
	b := n.bridge(e.Network)
	if b.side(six).mode == modeRouted {
		return at, false
	}
	ip := p.HostIP
	if !ip.IsValid() {
		ip = b.bind
		if six && ip == netip.IPv4Unspecified() {
			ip = netip.IPv6Unspecified()
		}
	}
	at = place{host: ip, container: e.addr(six && !across), policy: cmp.Or(p.Policy, b.policy, *n.policy.Load(), PolicyDNAT)}
	proxy := !n.c.NoProxy && p.Proto != "sctp" && n.c.Gate.Binary != ""
	switch {
	case at.policy == PolicyGate:
	case across || ip == netip.IPv6Loopback(): // nothing is translated there
		if n.c.NoProxy {
			return at, false
		}
		at.policy = PolicyGate
	case proxy && !n.c.rules(six):
		at.policy = PolicyGate
	}
	// The gate serves ::1, which is not translated either.
	at.served = at.policy == PolicyGate || ip == netip.IPv6Unspecified() && proxy
	return at, ip.Is6() == six
}

// checkPorts refuses what could never be published: also an IPv4 address where
// the container has IPv6 only, unless it has no way out at all.
func (n *Networks) checkPorts(c *containerRecord) error {
	four, six := n.portsOf(c, false), n.portsOf(c, true)
	for _, p := range c.Asked {
		if err := p.check(); err != nil {
			return err
		}
		if p.HostIP.IsValid() && p.HostIP.Is4() && four == nil && six != nil {
			return errdefs.NotImplementedf("cannot publish port %d/%s on %s: the network has no IPv4", p.Port, p.Proto, p.HostIP)
		}
		for _, six := range families() {
			at, ok := n.publishedAt(c, p, six)
			switch {
			case ok && at.policy != PolicyGate && !n.c.rules(six) && !n.c.NoProxy:
				return errdefs.NotImplementedf("cannot publish port %d/%s on %s: there are no rules (iptables, ip6tables of the daemon), and without them only tcp and udp can be published, by lade-gate", p.Port, p.Proto, at.host)
			case !ok || at.policy != PolicyGate:
			case p.Proto == "sctp":
				return errdefs.Invalidf("cannot publish port %d/sctp on %s: only tcp and udp can pass the gate", p.Port, at.host)
			case n.c.Gate.Binary == "":
				return errdefs.NotImplementedf("cannot publish port %d/%s on %s: there is no program lade-gate", p.Port, p.Proto, at.host)
			}
		}
	}
	return nil
}
