package network

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/trace"
)

// What somebody removes in the host is made anew at once: the kernel tells of
// it, and only of that (see netlink.Monitor.Only). What was removed while no
// daemon ran is found after Restore.

// Visit lets f work in the network namespace of a container that runs, in that
// container's turn: no other call for it is under way meanwhile. It returns at
// once; f is not called for a container that has ended.
type Visit func(containerID string, f func(ctx context.Context, ns *os.File) error)

// Visits sets how containers are visited whose interfaces somebody removed. It
// is called once; before, they stay as they are.
func (n *Networks) Visits(v Visit) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.visit = v
}

func (n *Networks) visitor() Visit {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.visit
}

// listen begins to hear of links that go and routes that come.
func (n *Networks) listen() (err error) {
	n.links, err = netlink.Listen(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return err
	}
	if err := n.links.Only(unix.RTM_DELLINK, unix.RTM_NEWROUTE); err != nil {
		return err
	}
	n.wg.Go(n.hear)
	return nil
}

// deaf ends listen: what goes from now on stays away.
func (n *Networks) deaf() error {
	n.mending.Lock()
	n.ending = true
	n.mending.Unlock()
	if n.links == nil {
		return nil
	}
	if err := n.links.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

func (n *Networks) hear() {
	for {
		err := n.links.Receive(func(m netlink.Message) {
			if rt, ok := netlink.ParseRoute(m); ok {
				n.reached(rt)
			} else if l, ok := netlink.ParseLink(m); ok && m.Data[0] == unix.AF_UNSPEC { // else it only left a bridge
				n.lost(l.Name)
			}
		})
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case errors.Is(err, unix.ENOBUFS): // notifications were lost
			n.lookAll()
		case err != nil:
			n.log.Error("cannot hear of the host's links", "error", err)
			return
		}
	}
}

// lost mends what a link of the host was part of: mostly nothing, as the link of
// each container that ends is heard of.
func (n *Networks) lost(name string) {
	isOf := func(b *bridge) bool { return b.hostLink() == name || b.across.has(name) }
	if slices.ContainsFunc(n.allBridges(), isOf) {
		n.restore(isOf)
	}
	for id, network := range n.holders(name) {
		n.ask(id, network)
	}
}

// restore makes the links of networks anew.
func (n *Networks) restore(which func(*bridge) bool) {
	n.changing.Lock() // or a network that is being removed would be made anew
	defer n.changing.Unlock()
	n.mending.Lock()
	defer n.mending.Unlock()
	if n.ending {
		return
	}
	for _, b := range n.allBridges() {
		if which(b) && n.needed(b) {
			if err := n.repair(b); err != nil {
				n.log.Error("cannot make the link of a network anew", "network", b.network, "link", b.hostLink(), "error", err)
			}
		}
	}
}

// ask has a container visited whose interface in a network is gone.
func (n *Networks) ask(id, network string) {
	if v := n.visitor(); v != nil {
		v(id, func(ctx context.Context, ns *os.File) error { return n.Mend(ctx, id, network, ns) })
	}
}

// lookAll looks whether all bridges and interfaces are there, and whether there
// are others in the containers: a crash may have left some.
func (n *Networks) lookAll() {
	n.review()
	orphans := false
	for _, b := range n.allBridges() {
		orphans = orphans || b.children != nil
		if b.foreign != nil {
			continue
		}
		if _, err := n.rt.LinkState(0, b.hostLink()); errors.Is(err, unix.ENODEV) {
			n.lost(b.hostLink())
		}
		if b.across == nil {
			continue
		}
		if _, err := n.rt.LinkState(0, b.across.device); errors.Is(err, unix.ENODEV) {
			n.lost(b.across.device)
		}
	}
	v := n.visitor()
	for _, id := range n.Containers() {
		c, ok := n.record(id)
		if !ok {
			continue
		}
		for _, e := range c.Endpoints {
			if n.missing(e) {
				n.ask(id, e.Network)
			}
		}
		if orphans && v != nil {
			v(id, func(_ context.Context, ns *os.File) error { return n.weed(id, ns) })
		}
	}
}

// missing reports whether the interface of an endpoint is gone.
func (n *Networks) missing(e *endpointRecord) bool {
	var err error
	switch {
	case e.Kind != "":
		_, err = n.rt.LinkOf(e.NSID, e.Inside)
	case e.Link != "":
		_, err = n.rt.LinkState(0, e.Link)
	}
	return errors.Is(err, unix.ENODEV)
}

// Mend makes the interface of a container in a network anew, with its addresses,
// routes, parameters and limits, if somebody removed it. ns is the namespace in
// which the container is. It is idempotent. Errors: as Attach.
func (n *Networks) Mend(ctx context.Context, containerID, name string, ns *os.File) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	old, ok := n.record(containerID)
	if !ok || old.in(name) == nil || !n.missing(old.in(name)) {
		return nil
	}
	was := old.in(name)
	b := n.bridge(name)
	if b == nil {
		return errdefs.NotFoundf("network %s not found", name)
	}
	c := old.clone()
	e := *was
	e.Noise = Counters{}
	c.replace(&e)
	n.log.Warn("somebody removed the interface of a container; it is made anew", "container", c.Name, "network", name, "interface", e.Inside)
	var steps undo
	err := n.regrow(b, c, &e, ns, &steps)
	if err == nil {
		err = c.put(n.c.Store, containerID)
	}
	if err == nil {
		err = n.exchange(containerID, old, c)
	}
	if err != nil {
		steps.run()
		return err
	}
	if was.Limits.Out != 0 {
		n.shaper.clear(was.Link)
	}
	return nil
}

// regrow makes the interface of an endpoint whose addresses are taken.
func (n *Networks) regrow(b *bridge, c *containerRecord, e *endpointRecord, ns *os.File, steps *undo) error {
	from, err := n.sourceFor(b, c, e)
	if err != nil {
		return err
	}
	s, err := from.add(ns, e.Inside)
	if err != nil {
		return err
	}
	defer s.close()
	steps.add(func() { n.removeEnd(ns, e) })
	var gateways [2]netip.Addr
	for i, six := range families() {
		if gw, via := n.gatewayOf(c, six); gw == e {
			gateways[i] = via
		}
	}
	if err := n.configure(s, e, gateways, steps); err != nil {
		return err
	}
	n.introduce(b, e, false)
	return setSysctls(ns, e.Sysctls, e.Inside)
}

// weed removes children that a crash left in a container's namespace: nothing
// says whose their addresses are.
func (n *Networks) weed(id string, ns *os.File) error {
	c, ok := n.record(id)
	if !ok {
		return nil
	}
	var conn *netlink.Conn
	err := netns.Do(ns, func() (err error) {
		conn, err = netlink.Dial(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	links, err := conn.Links()
	errs := []error{err}
	for _, l := range links {
		if l.Group != childGroup || slices.ContainsFunc(c.Endpoints, func(e *endpointRecord) bool { return e.Inside == l.Name }) {
			continue
		}
		var r netlink.Request
		r.DelLink(l.Index)
		n.log.Warn("an interface is removed that belongs to nobody", "container", c.Name, "interface", l.Name)
		errs = append(errs, trace.Begin(trace.Net, "delete link", l.Name).End(conn.Do(&r)))
	}
	return errors.Join(errs...)
}
