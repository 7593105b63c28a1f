package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/store"
)

// Attach connects a container, which Connect has connected, to a further
// network: a new interface comes up in r.NetNS, and default routes and published
// ports follow the priorities. On error nothing remains.
//
// Errors: as Connect; NotFound for a container that is not connected, Forbidden
// when it is in the network already, Invalid for the networks host and none, and
// for a container that is in one of them.
func (n *Networks) Attach(ctx context.Context, r Request) (*Endpoint, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	old, ok := n.record(r.ContainerID)
	if !ok {
		return nil, errdefs.NotFoundf("container %s is not connected", r.ContainerID)
	}
	e, b, err := n.newEndpoint(r)
	if err != nil {
		return nil, err
	}
	if err := mayJoin(old, e.Network); err != nil {
		return nil, err
	}
	c := old.clone()
	if e.Inside, err = freeName(old, r.Interface, b.prefix); err != nil {
		return nil, err
	}
	c.Endpoints = append(c.Endpoints, e)
	var steps undo
	err = n.extend(b, r, old, c, e, &steps)
	failpoint.Hit("network.attach")
	if err == nil {
		err = c.put(n.c.Store, r.ContainerID)
	}
	if err != nil {
		steps.run()
		return nil, err
	}
	if err := n.exchange(r.ContainerID, old, c); err != nil {
		steps.run()
		return nil, err
	}
	n.tell(e.Network)
	return n.endpoint(c, e), nil
}

// exchange puts a new record in the place of an old one; the namespace is not
// what it was. Errors: Conflict when the container has ended meanwhile: its
// record is erased again.
func (n *Networks) exchange(containerID string, old, c *containerRecord) error {
	n.mu.Lock()
	now := n.containers[containerID]
	if now == old {
		n.containers[containerID] = c
		if l := n.leases[containerID]; l != nil {
			l.changed = true
		}
	}
	n.mu.Unlock()
	if now == old {
		return nil
	}
	var b store.Batch
	b.Delete(endpointBucket, containerID)
	return errors.Join(errdefs.Conflictf("container %s is not running", containerID), n.c.Store.Append(&b))
}

// mayJoin refuses a further network where there can be none, in Docker's words.
func mayJoin(c *containerRecord, name string) error {
	for _, e := range c.Endpoints {
		switch {
		case e.Network == network.NetworkHost:
			return errdefs.Invalidf("container sharing network namespace with another container or host cannot be connected to any other network")
		case e.Network == network.NetworkNone:
			return errdefs.Invalidf("container cannot be connected to multiple networks with one of the networks in private (none) mode")
		}
	}
	switch {
	case name == network.NetworkHost:
		return errdefs.Invalidf("container cannot be disconnected from host network or connected to host network")
	case name == network.NetworkNone:
		return errdefs.Invalidf("container cannot be connected to multiple networks with one of the networks in private (none) mode")
	case c.in(name) != nil:
		return errdefs.Forbiddenf("endpoint with name %s already exists in network %s", c.Name, name)
	}
	return nil
}

// freeName returns the name of a new interface of a container: the one asked
// for, or the first free of eth0, eth1, …, or with another prefix.
func freeName(c *containerRecord, asked, prefix string) (string, error) {
	prefix = cmp.Or(prefix, "eth")
	taken := func(name string) bool {
		return slices.ContainsFunc(c.Endpoints, func(e *endpointRecord) bool { return e.Inside == name })
	}
	if asked != "" {
		if taken(asked) {
			return "", errdefs.Invalidf("an interface of the container has the name %s already", asked)
		}
		return asked, nil
	}
	for i := 0; ; i++ {
		if name := prefix + strconv.Itoa(i); !taken(name) {
			return name, nil
		}
	}
}

// extend makes what a further endpoint needs; steps takes it back, also after an
// error.
func (n *Networks) extend(b *bridge, r Request, old, c *containerRecord, e *endpointRecord, steps *undo) error {
	if err := n.takeAddrs(b, r, e, steps); err != nil {
		return err
	}
	if err := n.bindPorts(c, e, steps); err != nil {
		return err
	}
	from, err := n.sourceFor(b, c, e)
	if err != nil {
		return err
	}
	s, err := from.add(r.NetNS, e.Inside)
	if err != nil {
		return fmt.Errorf("make the interface %s: %w", e.Inside, err)
	}
	defer s.close()
	steps.add(func() { n.removeEnd(r.NetNS, e) })
	if err := n.configure(s, e, [2]netip.Addr{}, steps); err != nil {
		return err
	}
	n.introduce(b, e, len(r.Again) > 0)
	e.Sysctls = r.Sysctls
	if err := setSysctls(r.NetNS, r.Sysctls, e.Inside); err != nil {
		return err
	}
	if err := n.reroute(s.conn, old, c); err != nil {
		return fmt.Errorf("change the default route: %w", err)
	}
	steps.add(func() { n.rerouteIn(r.NetNS, c, old) })
	return n.open(old, c, steps)
}

// delEnd removes the host's end of a pair, and thereby the other one.
func (n *Networks) delEnd(link string) {
	l, err := n.rt.LinkState(0, link)
	if err == nil {
		err = delLink(n.rt, l)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) { // somebody was faster
		n.log.Warn("cannot remove a network interface", "link", link, "error", err)
	}
}

// rerouteIn is reroute in a namespace, where interfaces may be missing.
func (n *Networks) rerouteIn(ns *os.File, old, c *containerRecord) {
	var conn *netlink.Conn
	err := netns.Do(ns, func() (err error) {
		conn, err = netlink.Dial(unix.NETLINK_ROUTE)
		return err
	})
	if err == nil {
		defer conn.Close()
		err = n.reroute(conn, old, c)
	}
	if err != nil {
		n.log.Warn("cannot change the default route of a container", "container", c.Name, "error", err)
	}
}

// Detach disconnects a container from one of its networks; ns is the namespace
// in which it is. Errors: NotFound for the network; Internal, as in Docker, when
// the container is not in it; Invalid for the network host.
func (n *Networks) Detach(ctx context.Context, containerID, name string, ns *os.File) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	name, err := n.Resolve(name)
	if err != nil {
		return err
	}
	old, ok := n.record(containerID)
	if !ok || old.in(name) == nil {
		return errdefs.Internalf("container %s is not connected to network %s", containerID, name)
	}
	e := old.in(name)
	if name == network.NetworkHost {
		return errdefs.Invalidf("container cannot be disconnected from host network or connected to host network")
	}
	c := old.clone()
	c.Endpoints = slices.DeleteFunc(c.Endpoints, func(o *endpointRecord) bool { return o == e })
	var lost []binding
	c.Ports = slices.DeleteFunc(c.Ports, func(p binding) bool {
		_, leads := n.leadsTo(c, p)
		if !leads {
			lost = append(lost, p)
		}
		return !leads
	})
	var steps undo
	if err = n.bindPorts(c, e, &steps); err == nil {
		err = n.open(old, c, &steps)
	}
	if err == nil {
		err = c.put(n.c.Store, containerID)
	}
	if err != nil {
		steps.run()
		return err
	}
	if err := n.exchange(containerID, old, c); err != nil {
		steps.run()
		return err
	}
	failpoint.Hit("network.detached")
	if e.Link != "" || e.Kind != "" || e.Maker != "" {
		n.rerouteIn(ns, old, c)
		n.removeEnd(ns, e)
		if e.Limits.Out != 0 {
			n.shaper.clear(e.Link)
		}
	}
	for _, p := range lost {
		n.ports.release(p.host(), p.Served)
	}
	n.releaseAddrs(e)
	n.tell(e.Network)
	return nil
}
