package network

import (
	"cmp"
	"net/netip"
	"slices"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
)

// A container has one default route of each family: through the network with
// the highest priority, and of several with the same through the one whose name
// comes first. Its published ports lead to its address in that network.

// families are false for IPv4 and true for IPv6.
func families() [2]bool { return [2]bool{false, true} }

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
		gw := b.side(six).gateway
		if gw.IsValid() && (best == nil || cmp.Or(cmp.Compare(best.Priority, e.Priority), cmp.Compare(e.Network, best.Network)) < 0) {
			best, via = e, gw
		}
	}
	return best, via
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
// otherwise. In networks without a bridge -p has no effect, as in Docker, and
// without rules nothing can lead anywhere.
func (n *Networks) portsOf(c *containerRecord, six bool) *endpointRecord {
	e, _ := n.gatewayOf(c, six)
	if e == nil || n.bridge(e.Network).children != nil || six && n.c.NoRules6 {
		return nil
	}
	return e
}

// rules returns what the firewall has to know of a container: where its
// published ports lead, and which of its own ports a routed network opens.
func (n *Networks) rules(c *containerRecord) published {
	p := published{to: map[hostPort]netip.AddrPort{}, open: map[hostPort]bool{}}
	for _, six := range families() {
		e := n.portsOf(c, six)
		if e == nil {
			continue
		}
		for _, b := range c.Ports {
			if b.HostIP.Is6() == six {
				p.to[b.host()] = netip.AddrPortFrom(e.addr(six), b.Port)
			}
		}
		if n.bridge(e.Network).side(six).mode != modeRouted {
			continue
		}
		for _, a := range c.Asked {
			p.open[hostPort{a.Proto, netip.AddrPortFrom(e.addr(six), a.Port)}] = true
		}
	}
	return p
}

// publish binds the ports of the host that a container asked for and that its
// gateways allow, as far as they are not bound. steps takes them back, also
// after an error, which is in Docker's words.
func (n *Networks) publish(c *containerRecord, steps *undo) error {
	for i, p := range c.Asked {
		var at []place
		for _, six := range families() {
			j := slices.IndexFunc(c.Ports, func(b binding) bool { return b.Of == i && b.HostIP.Is6() == six })
			if j >= 0 { // the other family gets the same port
				p.HostPort, p.HostPortEnd = c.Ports[j].HostPort, 0
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
			steps.add(func() { n.ports.release(b.host()) })
			c.Ports = append(c.Ports, b)
		}
	}
	return nil
}

// publishedAt returns where a port is published in a family, and whether it is.
func (n *Networks) publishedAt(c *containerRecord, p Publish, six bool) (at place, ok bool) {
	e := n.portsOf(c, six)
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
	return place{host: ip, container: e.addr(six)}, ip.Is6() == six
}

// checkPorts refuses what could never be published: also an address of a family
// in which the container has no way out, unless it has none at all.
func (n *Networks) checkPorts(c *containerRecord) error {
	four, six := n.portsOf(c, false), n.portsOf(c, true)
	for _, p := range c.Asked {
		if err := p.check(); err != nil {
			return err
		}
		switch {
		case p.HostIP == netip.IPv6Loopback():
			return errdefs.NotImplementedf("cannot publish port %d/%s on ::1: it leads to no container; use 127.0.0.1", p.Port, p.Proto)
		case !p.HostIP.IsValid(), four == nil && six == nil:
		case p.HostIP.Is6() && six == nil:
			return errdefs.NotImplementedf("cannot publish port %d/%s on %s: the network has no IPv6", p.Port, p.Proto, p.HostIP)
		case p.HostIP.Is4() && four == nil:
			return errdefs.NotImplementedf("cannot publish port %d/%s on %s: the network has no IPv4", p.Port, p.Proto, p.HostIP)
		}
	}
	return nil
}
