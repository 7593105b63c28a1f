package network

import (
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/netrate"
)

// linkKind begins the names of the host ends of pairs, ifbKind those of the
// interfaces through which that is led which limited containers send. What
// follows is the same for both.
const (
	linkKind = "veth"
	ifbKind  = "ifb-"
)

// IFBPrefix begins the names of an engine's intermediate functional blocks.
func IFBPrefix(bridge string) string { return ifbOf(LinkPrefix(bridge)) }

// ifbOf returns the name of the ifb that belongs to a link.
func ifbOf(link string) string { return ifbKind + strings.TrimPrefix(link, linkKind) }

// Limits returns what holds for a container that asks for limits on a network:
// its name, or "" for the default. Errors: NotFound for the network; Invalid
// for limits that cannot be, or rates on a network where a container has no
// interface of its own.
func (n *Networks) Limits(name string, a netrate.Asked) (netrate.Limits, error) {
	name, err := n.Resolve(name)
	if err != nil {
		return netrate.Limits{}, err
	}
	b := n.bridge(name)
	if b == nil {
		if a.Any() {
			return netrate.Limits{}, errdefs.Invalidf("conflicting options: network rates and the %s network mode, where a container has no interface of its own", name)
		}
		return netrate.Limits{}, nil
	}
	if !b.bridged() {
		if a.Any() {
			return netrate.Limits{}, errdefs.Invalidf("conflicting options: network rates and the %s network %s, whose interfaces have no end in the host that is ours", n.Driver(name), name)
		}
		return netrate.Limits{}, nil
	}
	l := a.Limits(b.limits)
	return l, l.Check(b.mtu)
}

// Limit changes the limits of a connected container at once, on all of its
// interfaces; what waits in the queues stays there. On error the old ones hold.
// Errors: NotFound for a container that is not connected, otherwise as Limits.
func (n *Networks) Limit(_ context.Context, containerID string, a netrate.Asked) error {
	n.shaper.mu.Lock()
	defer n.shaper.mu.Unlock()
	c, ok := n.record(containerID)
	if !ok {
		return errdefs.NotFoundf("container %s is not connected", containerID)
	}
	changed := c.clone()
	for _, e := range c.Endpoints {
		l, err := n.Limits(e.Network, a)
		if err != nil {
			return err
		}
		if e.Limits != l {
			next := *e
			next.Limits = l
			changed.replace(&next)
		}
	}
	if slices.Equal(changed.Endpoints, c.Endpoints) {
		return nil
	}
	err := n.shaper.setChangedLocked(changed, c)
	if err == nil {
		failpoint.Hit("network.limit")
		err = changed.put(n.c.Store, containerID)
	}
	if err != nil {
		return errors.Join(err, n.shaper.setChangedLocked(c, changed))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.containers[containerID] = changed
	if lease := n.leases[containerID]; lease != nil {
		lease.changed = true
	}
	return nil
}

// reshape brings the kernel back to the records, after a start: an earlier
// process may have been cut off between the two.
func (n *Networks) reshape() {
	links, err := n.rt.Links()
	if err != nil {
		n.log.Warn("cannot list the network interfaces", "error", err)
		return
	}
	limited := map[string]bool{} // as the kernel says
	for _, l := range links {
		switch {
		case l.Qdisc == "tbf":
			limited[l.Name] = true
		case strings.HasPrefix(l.Name, IFBPrefix(n.c.Bridge)):
			limited[linkKind+strings.TrimPrefix(l.Name, ifbKind)] = true
		}
	}
	for _, id := range n.Containers() {
		if err := n.reshapeOne(id, limited); err != nil && !errors.Is(err, unix.ENODEV) {
			n.log.Warn("cannot limit a container's network", "container", id, "error", err)
		}
	}
}

func (n *Networks) reshapeOne(id string, limited map[string]bool) error {
	n.shaper.mu.Lock()
	defer n.shaper.mu.Unlock()
	c, ok := n.record(id)
	if !ok {
		return nil
	}
	var errs []error
	for _, e := range c.Endpoints {
		if e.Link != "" && (e.Limits.Any() || limited[e.Link]) {
			errs = append(errs, n.shaper.setLocked(e, e.Limits))
		}
	}
	return errors.Join(errs...)
}

// Shaping returns the limits of a container's first interface with their counters;
// a direction without limit is nil. It costs two requests for each limit, and
// nothing without. Errors: NotFound for a container that is not connected.
func (n *Networks) Shaping(containerID string) (in, out *Shaped, err error) {
	c, ok := n.record(containerID)
	if !ok {
		return nil, nil, errdefs.NotFoundf("container %s is not connected", containerID)
	}
	if len(c.Endpoints) == 0 {
		return nil, nil, nil
	}
	r := c.Endpoints[0]
	if r.Limits.In != 0 {
		in, err = n.shaper.read(r.Link, r.Limits.In, r.Limits.Burst)
	}
	if r.Limits.Out != 0 && err == nil {
		out, err = n.shaper.read(ifbOf(r.Link), r.Limits.Out, r.Limits.Burst)
	}
	return in, out, err
}
