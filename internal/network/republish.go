package network

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"lade/internal/failpoint"
)

// askedKey tells what is asked for apart.
type askedKey struct {
	proto          string
	port, from, to uint16
	ip             netip.Addr
	policy         string
	sources        string
}

func (pub Publish) key() askedKey {
	k := askedKey{pub.Proto, pub.Port, pub.HostPort, pub.HostPortEnd, pub.HostIP, pub.Policy, ""}
	for _, r := range pub.From {
		k.sources += r.String() + ","
	}
	return k
}

// Republish changes which ports of a running container are published: all of
// asked, and no others, in one transaction; what stays is not touched, and
// connections to what goes go on. It returns what was asked before. On error
// nothing has changed. Of a container that is not connected it does nothing.
//
// Errors: as Connect for ports; Conflict when the container has ended meanwhile.
func (n *Networks) Republish(ctx context.Context, containerID string, asked []Publish) (was []Publish, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	old, ok := n.record(containerID)
	if !ok {
		return nil, nil
	}
	c, lost, changed := old.republish(asked)
	if !changed {
		return old.Asked, nil
	}
	var e *endpointRecord
	for _, six := range families() {
		if gw, _ := n.gatewayOf(c, six); gw != nil && e == nil {
			e = gw
		}
	}
	if e == nil { // none is bound
		e = old.Endpoints[0]
	}
	var steps undo
	lost = n.yield(old, c, n.inherit(c, lost), &steps)
	if err = n.bindPorts(c, e, &steps); err == nil {
		err = n.open(old, c, &steps)
	}
	failpoint.Hit("network.republish")
	if err == nil {
		err = c.put(n.c.Store, containerID)
	}
	if err != nil {
		steps.run()
		return nil, err
	}
	if err := n.exchange(containerID, old, c); err != nil {
		steps.run()
		return nil, err
	}
	for _, b := range lost {
		n.ports.release(b.host(), b.Served)
	}
	n.forget(old)
	n.forget(c)
	return old.Asked, nil
}

// republish returns a copy of the record with other ports asked for, the bindings
// that go, and whether there is a difference at all.
func (c *containerRecord) republish(asked []Publish) (now *containerRecord, lost []binding, changed bool) {
	now = c.clone()
	now.Asked, now.Ports = asked, nil
	places := map[askedKey][]int{} // in the new list
	for j, a := range asked {
		places[a.key()] = append(places[a.key()], j)
	}
	place := map[int]int{} // of what is still asked, from the old list to the new one
	for i, o := range c.Asked {
		if js := places[o.key()]; len(js) > 0 {
			place[i], places[o.key()] = js[0], js[1:]
		}
	}
	for _, b := range c.Ports {
		j, stays := place[b.Of]
		if !stays {
			lost = append(lost, b)
			continue
		}
		b.Of = j
		now.Ports = append(now.Ports, b)
	}
	return now, lost, len(place) != len(c.Asked) || len(place) != len(asked)
}

// inherit gives a port of the host that goes to the one that is asked for in its
// place, and returns the others.
func (n *Networks) inherit(c *containerRecord, lost []binding) (rest []binding) {
	for _, b := range lost {
		at := slices.IndexFunc(c.Asked, func(p Publish) bool {
			return p.Proto == b.Proto && p.HostPort == b.HostPort && p.HostPortEnd <= p.HostPort && (!p.HostIP.IsValid() || p.HostIP == b.HostIP)
		})
		taken := slices.ContainsFunc(c.Ports, func(o binding) bool { return o.Of == at && o.HostIP.Is6() == b.HostIP.Is6() })
		if at < 0 || taken {
			rest = append(rest, b)
			continue
		}
		to, ok := n.publishedAt(c, c.Asked[at], b.HostIP.Is6())
		if !ok || to.host != b.HostIP || to.served != b.Served {
			rest = append(rest, b)
			continue
		}
		now := newBinding(c.Asked[at], to)
		now.HostPort, now.Of = b.HostPort, at
		c.Ports = append(c.Ports, now)
	}
	return rest
}

// yield gives ports of the host back that are in the way of what is asked for in
// their place, on another address or for another kind of socket, and returns the
// others. Until the next one is bound somebody else may be faster.
func (n *Networks) yield(old, c *containerRecord, lost []binding, steps *undo) (rest []binding) {
	for _, b := range lost {
		inTheWay := slices.ContainsFunc(c.Asked, func(p Publish) bool {
			return p.Proto == b.Proto && p.HostPort != 0 && p.HostPort <= b.HostPort && b.HostPort <= max(p.HostPort, p.HostPortEnd)
		})
		if !inTheWay {
			rest = append(rest, b)
			continue
		}
		if b.Served {
			if err := n.gate.Close(b.host().gateKey(), false); err != nil {
				n.log.Warn("cannot take back a published port", "container", c.Name, "port", b.host(), "error", err)
			}
		}
		n.ports.release(b.host(), b.Served)
		steps.add(func() {
			if err := errors.Join(n.ports.keep(b.host(), b.Served, nil), n.serve(&containerRecord{}, old)); err != nil {
				n.log.Warn("cannot publish a port again", "container", c.Name, "port", b.host(), "error", err)
			}
		})
	}
	return rest
}
