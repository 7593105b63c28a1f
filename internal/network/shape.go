package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/linux/netlink"
	"lade/internal/linux/tc"
	"lade/internal/netrate"
	"lade/internal/trace"
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
	n.shaping.Lock()
	defer n.shaping.Unlock()
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
	err := n.shapeAll(changed, c)
	if err == nil {
		failpoint.Hit("network.limit")
		err = changed.put(n.c.Store, containerID)
	}
	if err != nil {
		return errors.Join(err, n.shapeAll(c, changed))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.containers[containerID] = changed
	if lease := n.leases[containerID]; lease != nil {
		lease.changed = true
	}
	return nil
}

// shapeAll brings the links of c to its limits, except those that are as in was.
func (n *Networks) shapeAll(c, was *containerRecord) error {
	for i, e := range c.Endpoints {
		if e != was.Endpoints[i] {
			if err := n.shapeLocked(e, e.Limits); err != nil {
				return err
			}
		}
	}
	return nil
}

// Queue sizes. A bucket holds what passes in burstTime, so that a busy
// machine's late timers take nothing from the rate, and in any case what lets a
// TCP connection begin without loss (10 packets); a queue keeps what comes in
// queueTime, and in any case what a connection has under way before it finds
// out how fast it may be. Measured: docs/adr/0014.
const (
	burstTime  = 4 // ms
	leastBurst = 16 << 10
	queueTime  = 50 // ms
	leastQueue = 256 << 10
	mostQueue  = 1 << 30
)

// bucket returns the queueing discipline for a rate.
func bucket(rate netrate.Bits, burst int64, mtu int) tc.TBF {
	during := func(ms uint64) uint64 { return rate.Bytes() * ms / 1000 }
	return tc.TBF{
		Rate:  rate.Bytes(),
		Burst: uint32(cmp.Or(uint64(burst), max(during(burstTime), leastBurst, uint64(mtu+netrate.FrameHeader)))),
		Limit: uint32(min(max(during(queueTime), leastQueue), mostQueue)),
	}
}

// shape brings both directions of a link to limits, whatever held before. What
// a container receives is what the host's end sends. What it sends is received
// by the host's end and led through an ifb before anything else sees it: so
// neither direction is in the container's reach, whatever it may do in its
// namespace (docs/adr/0014). Errors: ENODEV when the link is gone.
func (n *Networks) shape(e *endpointRecord, l netrate.Limits) error {
	n.shaping.Lock()
	defer n.shaping.Unlock()
	return n.shapeLocked(e, l)
}

func (n *Networks) shapeLocked(e *endpointRecord, l netrate.Limits) error {
	span := trace.Begin(trace.Net, "limit", e.Link)
	host, err := n.rt.LinkState(0, e.Link)
	if err == nil {
		err = errors.Join(n.shapeIn(host, l), n.shapeOut(host, l))
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		err = errdefs.NotImplementedf("network rates need a kernel with sch_tbf, sch_ingress, cls_u32, act_mirred and ifb: %w", err)
	}
	return span.End(err)
}

func (n *Networks) shapeIn(host netlink.Link, l netrate.Limits) error {
	var r netlink.Request
	switch {
	case l.In != 0:
		tc.ReplaceTBF(&r, host.Index, bucket(l.In, l.Burst, host.MTU))
	case host.Qdisc == "tbf":
		tc.DelRoot(&r, host.Index)
	}
	return n.rt.Do(&r)
}

func (n *Networks) shapeOut(host netlink.Link, l netrate.Limits) error {
	if l.Out == 0 {
		return n.undoRedirect(ifbOf(host.Name), host.Index)
	}
	return n.redirect(ifbOf(host.Name), host.Index, bucket(l.Out, l.Burst, host.MTU))
}

// redirect makes what a link receives pass through an ifb, which is made unless it
// is there. It is bounded before the first packet comes.
func (n *Networks) redirect(ifb string, link int, t tc.TBF) error {
	var r netlink.Request
	r.AddIFB(ifb)
	if err := n.rt.Do(&r); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	i, err := n.rt.LinkState(0, ifb)
	if err != nil {
		return err
	}
	r.Reset()
	tc.ReplaceTBF(&r, i.Index, t)
	r.SetUp(i.Index, "")
	tc.AddIngress(&r, link)
	if err := n.rt.Do(&r); err != nil {
		return err
	}
	r.Reset()
	tc.Redirect(&r, link, i.Index)
	if err := n.rt.Do(&r); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// undoRedirect undoes redirect, if there is anything to undo.
func (n *Networks) undoRedirect(ifb string, link int) error {
	i, err := n.rt.LinkState(0, ifb)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return err
	}
	var r netlink.Request
	tc.DelIngress(&r, link)
	if err := n.rt.Do(&r); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return n.delLink(i)
}

// unshape removes the ifb of a link that goes away; all else goes with the link.
// Whoever still is in its namespace sends nothing any more. The kernel waits for
// an RCU grace period, 10 ms and more, in which nobody else need wait.
func (n *Networks) unshape(link string) {
	n.shaping.Lock() // reshape may be about to make it
	i, err := n.rt.LinkState(0, ifbOf(link))
	n.shaping.Unlock()
	if err == nil {
		err = n.delLink(i)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		n.log.Warn("cannot remove a network interface", "link", ifbOf(link), "error", err)
	}
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
	n.shaping.Lock()
	defer n.shaping.Unlock()
	c, ok := n.record(id)
	if !ok {
		return nil
	}
	var errs []error
	for _, e := range c.Endpoints {
		if e.Link != "" && (e.Limits.Any() || limited[e.Link]) {
			errs = append(errs, n.shapeLocked(e, e.Limits))
		}
	}
	return errors.Join(errs...)
}

// Shaped are the limits of one direction and what became of the packets.
type Shaped struct {
	Rate       netrate.Bits
	Burst      int64  // bytes
	Backlog    uint64 // bytes that wait
	Dropped    uint64 // packets
	Overlimits uint64 // how often a packet had to wait
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
		in, err = n.shaped(r.Link, r.Limits.In, r.Limits.Burst)
	}
	if r.Limits.Out != 0 && err == nil {
		out, err = n.shaped(ifbOf(r.Link), r.Limits.Out, r.Limits.Burst)
	}
	return in, out, err
}

func (n *Networks) shaped(link string, rate netrate.Bits, burst int64) (*Shaped, error) {
	l, err := n.rt.LinkState(0, link)
	var q tc.Qdisc
	if err == nil {
		q, err = tc.Root(n.rt, l.Index)
	}
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) { // the container has just ended
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("queueing discipline of %s: %w", link, err)
	}
	return &Shaped{
		Rate: rate, Burst: int64(bucket(rate, burst, l.MTU).Burst),
		Backlog: uint64(q.Backlog), Dropped: uint64(q.Dropped), Overlimits: uint64(q.Overlimits),
	}, nil
}
