package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/ids"
	"lade/internal/linux/conntrack"
	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/store"
	"lade/internal/trace"
)

// Connect gives a container its namespace, address and published ports, in the
// first of its networks. On error nothing remains. From the pool it takes a
// fraction of a millisecond; ctx is looked at before it begins.
//
// Errors: NotFound for the network, Conflict when the container is connected,
// Exhausted without a free address, Forbidden for one in use, Invalid for a
// request that cannot be, Internal with Docker's words for a port that is taken
// ("driver failed programming external connectivity on endpoint …").
func (n *Networks) Connect(ctx context.Context, r Request) (*Endpoint, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if _, ok := n.record(r.ContainerID); ok {
		return nil, errdefs.Conflictf("container %s is already connected to a network", r.ContainerID)
	}
	e, b, err := n.newEndpoint(r)
	if err != nil {
		return nil, err
	}
	c := &containerRecord{Sandbox: ids.New(), Name: r.Name, Asked: r.Ports, Endpoints: []*endpointRecord{e}}
	var (
		ns    *os.File
		held  *lease
		steps undo
	)
	switch {
	case b != nil:
		if held, err = n.attach(b, r, c, e, &steps); err == nil {
			if ns, err = netns.Duplicate(held.slot.ns); err == nil {
				steps.add(func() { ns.Close() })
			}
		}
	case e.Network == network.NetworkNone:
		if ns, err = isolated(madeIn(r.NetNS)); err == nil {
			steps.add(func() { ns.Close() })
		}
	}
	if err == nil && ns != nil {
		e.Sysctls = r.Sysctls
		err = setSysctls(ns, r.Sysctls, e.Inside)
	}
	failpoint.Hit("network.connect")
	if err == nil {
		err = c.put(n.c.Store, r.ContainerID)
	}
	failpoint.Hit("network.connected")
	if err != nil {
		steps.run()
		return nil, err
	}
	n.mu.Lock()
	n.containers[r.ContainerID] = c
	if held != nil {
		n.leases[r.ContainerID] = held
	}
	n.mu.Unlock()
	n.forget(c)
	n.tell(e.Network)
	if len(c.Ports) > manyPorts {
		n.wg.Go(debug.FreeOSMemory)
	}
	out := n.endpoint(c, e)
	out.NetNS = ns
	return out, nil
}

// manyPorts are so many that what publishing them took is worth giving back to the
// system at once, instead of with the next garbage collection of a quiet daemon.
const manyPorts = 1000

// newEndpoint returns what is known of an endpoint before it is made, and its
// bridge, if it has one, which is in use from now on.
func (n *Networks) newEndpoint(r Request) (*endpointRecord, *bridge, error) {
	name, err := n.Resolve(r.Network)
	if err != nil {
		return nil, nil, err
	}
	limits, err := n.Limits(name, r.Rates)
	if err != nil {
		return nil, nil, err
	}
	b := n.bridge(name)
	if b == nil && !n.Predefined(name) {
		return nil, nil, errdefs.Forbiddenf("cannot create endpoint on configuration-only network")
	}
	if b == nil {
		return &endpointRecord{ID: ids.New(), Network: name}, nil, nil
	}
	if b.children != nil {
		if err := b.children.checkMAC(r.MAC); err != nil {
			return nil, nil, err
		}
	}
	e := &endpointRecord{
		ID: ids.New(), Network: name, Limits: limits, Inside: cmp.Or(r.Interface, b.inside()), LinkLocal: r.LinkLocal,
		Aliases: r.Aliases, Links: r.Links, Priority: r.Priority,
	}
	return e, b, nil
}

// inside is the name of a container's first interface, if that is in the network.
func (b *bridge) inside() string {
	if b.prefix == "" {
		return inside
	}
	return b.prefix + "0"
}

// undo takes back what was done, the last first.
type undo []func()

func (u *undo) add(f func()) { *u = append(*u, f) }

func (u *undo) run() {
	for _, f := range slices.Backward(*u) {
		f()
	}
}

// isolated returns a namespace with nothing but lo.
func isolated(unshare inNew) (*os.File, error) {
	span := trace.Begin(trace.Net, "prepare namespace", network.NetworkNone)
	ns, err := unshare(func(*os.File) error {
		conn, err := netlink.Dial(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer conn.Close()
		var r netlink.Request
		r.SetUp(loIndex, "")
		return errors.Join(conn.Do(&r), defaults())
	})
	return ns, span.End(err)
}

// attach takes an address, ports and a slot for the first endpoint of a
// container, completes its record and returns the slot. steps takes all of it
// back, also after an error.
func (n *Networks) attach(b *bridge, r Request, c *containerRecord, e *endpointRecord, steps *undo) (*lease, error) {
	if err := n.takeAddrs(b, r, e, steps); err != nil {
		return nil, err
	}
	if err := n.bindPorts(c, e, steps); err != nil {
		return nil, err
	}
	s, err := n.slotFor(b, r, c, e)
	if err != nil {
		return nil, fmt.Errorf("prepare a network namespace: %w", err)
	}
	steps.add(s.close)
	steps.add(func() { n.holds.part(e, s.ns) })
	if err := n.configure(s, e, n.gateways(c), steps); err != nil {
		return nil, err
	}
	n.introduce(b, e, len(r.Again) > 0)
	if err := n.open(&containerRecord{}, c, steps); err != nil {
		return nil, err
	}
	return &lease{pool: b.pool, slot: s, changed: len(r.Sysctls) > 0 || e.Limits.Any() || b != n.def || b.v6.subnet.IsValid() || e.Inside != inside}, nil
}

// bindPorts publishes the ports that the container can have now.
func (n *Networks) bindPorts(c *containerRecord, e *endpointRecord, steps *undo) error {
	err := n.checkPorts(c)
	if err == nil {
		err = n.publish(c, steps)
	}
	if err != nil {
		return fmt.Errorf("driver failed programming external connectivity on endpoint %s (%s): %w", c.Name, e.ID, err)
	}
	return nil
}

// gateways returns those of a container with one endpoint.
func (n *Networks) gateways(c *containerRecord) (out [2]netip.Addr) {
	for i, six := range families() {
		_, out[i] = n.gatewayOf(c, six)
	}
	return out
}

// configure gives a slot what its endpoint has.
func (n *Networks) configure(s *slot, e *endpointRecord, gateways [2]netip.Addr, steps *undo) error {
	e.Link, e.Noise = s.link, s.noise
	if e.Limits.Any() { // before the first packet
		steps.add(func() { n.shaper.clear(s.link) })
		if err := n.shaper.set(e, e.Limits); err != nil {
			return fmt.Errorf("limit %s: %w", s.link, err)
		}
	}
	if err := s.address(e, gateways[:]...); err != nil {
		return fmt.Errorf("configure %s with %s, gateway %s: %w", e.Inside, e.IPv4, gateways[0], err)
	}
	return nil
}

// introduce tells the host where an endpoint is, so that it need not ask:
// whoever is not heard asks again after a second only. The bridge is told of a
// hardware address that another port had until just now: that of a container
// which starts again.
func (n *Networks) introduce(b *bridge, e *endpointRecord, again bool) {
	if !b.bridged() {
		return
	}
	var r netlink.Request
	if e.IPv6.IsValid() {
		r.SetNeighbour(int(b.pool.bridge.Load()), e.IPv6.Addr(), e.mac())
	}
	if again {
		if l, err := n.rt.LinkState(0, e.Link); err == nil {
			r.SetStation(l.Index, e.mac())
		}
	}
	if r.Messages() == 0 {
		return
	}
	if err := n.rt.Do(&r); err != nil { // then they learn it
		n.log.Warn("cannot set a neighbour", "container", e.Link, "address", e.IPv6, "error", err)
	}
}

// open lets the packets to a container's ports go where they are to go now.
func (n *Networks) open(was, now *containerRecord, steps *undo) error {
	old, next := n.rules(was), n.rules(now)
	if err := n.wall.change(old, next); err != nil {
		return fmt.Errorf("publish the ports of %s: %w", now.Name, err)
	}
	steps.add(func() {
		if err := errors.Join(n.serve(now, was), n.wall.change(next, old)); err != nil {
			n.log.Warn("cannot take back a published port", "container", now.Name, "error", err)
		}
	})
	if err := n.serve(was, now); err != nil {
		return fmt.Errorf("publish the ports of %s: %w", now.Name, err)
	}
	return nil
}

// networkPool is how many namespaces are prepared for a network that was
// created, from its first container on.
const networkPool = 4

// source makes the interfaces of a network's containers: a pool, a nursery, or
// for another program a guest.
type source interface {
	// take returns an interface eth0 in a namespace of its own.
	take() (*slot, error)
	// make makes one in a namespace that nobody uses yet.
	make(unshare inNew, name string) (*slot, error)
	// add makes a further one in a namespace that is in use.
	add(ns *os.File, name string) (*slot, error)
}

// sourceFor returns the source of an endpoint's interface.
func (n *Networks) sourceFor(b *bridge, c *containerRecord, e *endpointRecord) (source, error) {
	switch {
	case b.children != nil:
		return nursery{n, b, e}, nil
	case b.foreign != nil:
		return guest{n, b, c, e}, nil
	}
	return n.poolOf(b)
}

// slotFor returns a slot of the bridge's pool, or one in a namespace that is
// given or with an interface of another name.
func (n *Networks) slotFor(b *bridge, r Request, c *containerRecord, e *endpointRecord) (*slot, error) {
	from, err := n.sourceFor(b, c, e)
	if err != nil {
		return nil, err
	}
	if r.NetNS == nil && e.Inside == inside {
		return from.take()
	}
	return from.make(madeIn(r.NetNS), e.Inside)
}

// madeIn is netns.New for a namespace that is there already; nil: a new one.
func madeIn(ns *os.File) inNew {
	if ns == nil {
		return netns.New
	}
	return func(f func(*os.File) error) (*os.File, error) {
		ns, err := netns.Duplicate(ns)
		if err != nil {
			return nil, err
		}
		if err := netns.Do(ns, func() error { return f(ns) }); err != nil {
			ns.Close()
			return nil, err
		}
		return ns, nil
	}
}

// takeAddrs takes the addresses of an endpoint, in each family that its network
// has, and the use of the bridge with them.
func (n *Networks) takeAddrs(b *bridge, r Request, e *endpointRecord, steps *undo) error {
	if err := b.ownAddress(r); err != nil {
		return err
	}
	if err := n.takeOwn(b, r, e); err != nil {
		return err
	}
	steps.add(func() { n.releaseAddrs(e) })
	if b.granted != nil { // the network is in use by now
		if err := n.grants.lease(b, r, e); err != nil {
			return err
		}
	}
	if e.MAC == "" {
		e.MAC = b.hardware(r.MAC, e).String()
	}
	return nil
}

// takeOwn takes the use of a bridge, and with it addresses of our own books.
func (n *Networks) takeOwn(b *bridge, r Request, e *endpointRecord) (err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.bridges[b.network] != b {
		return errdefs.NotFoundf("network %s not found", b.network)
	}
	if b.granted == nil {
		if e.IPv4, err = b.v4.take(r.IPv4, r.Again); err != nil {
			return err
		}
		if e.IPv6, err = b.v6.take(r.IPv6, r.Again); err != nil {
			b.v4.release(e.IPv4)
			return err
		}
	}
	b.users++
	return nil
}

// hardware returns the hardware address of an endpoint: the one asked for, else
// one that comes of its address; none where it is the parent's.
func (b *bridge) hardware(asked net.HardwareAddr, e *endpointRecord) net.HardwareAddr {
	ip := e.IPv4.Addr()
	if !ip.IsValid() {
		ip = e.IPv6.Addr()
	}
	switch {
	case asked != nil:
		return asked
	case b.foreign != nil: // its maker's to choose
		return nil
	case b.children == nil:
		return hardware(ip)
	case b.children.ownMAC():
		return b.children.hardware(b.id, ip)
	}
	return nil
}

// releaseAddrs gives an endpoint's addresses and the use of its bridge back.
func (n *Networks) releaseAddrs(e *endpointRecord) {
	if b := n.bridge(e.Network); b != nil && b.granted != nil {
		n.grants.returnOf(e.ID, false)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if b := n.bridges[e.Network]; b != nil {
		b.users--
		b.v4.release(e.IPv4)
		b.v6.release(e.IPv6)
	}
}

// Release gives back the addresses and the ports of a container that ended. It
// is idempotent and never waits for the namespace to go away.
func (n *Networks) Release(_ context.Context, containerID string) error {
	n.mu.Lock()
	c, ok := n.containers[containerID]
	l := n.leases[containerID]
	delete(n.containers, containerID)
	delete(n.leases, containerID)
	n.mu.Unlock()
	if !ok {
		return nil
	}
	// First the packets, then what others may take.
	var errs []error
	if n.wall != nil {
		errs = append(errs, n.wall.change(n.rules(c), published{}))
	}
	errs = append(errs, n.serve(c, &containerRecord{}))
	for _, b := range c.Ports {
		n.ports.release(b.host(), b.Served)
	}
	n.forget(c)
	for _, e := range c.Endpoints {
		if e.Limits.Out != 0 { // in the background: the kernel takes its time
			n.wg.Go(func() { n.shaper.clear(e.Link) })
		}
	}
	n.orphan(c)
	n.holds.partAll(c, l)
	again := n.reuse(l, c)
	for _, e := range c.Endpoints {
		n.releaseAddrs(e)
	}
	failpoint.Hit("network.release")
	var b store.Batch
	b.Delete(endpointBucket, containerID)
	errs = append(errs, n.c.Store.Append(&b))
	if again != nil {
		l.pool.put(again)
	}
	n.tell(c.networks()...)
	return errors.Join(errs...)
}

// forget makes the kernel decide anew where the datagrams to an endpoint's UDP
// ports go, in the background: a client that sends all the time would else
// never notice that the ports were published, or taken back.
func (n *Networks) forget(c *containerRecord) {
	var udp []uint16
	for _, b := range c.Ports {
		if b.Proto == "udp" && b.HostIP.Is4() {
			udp = append(udp, b.HostPort)
		}
	}
	e := n.portsOf(c, false)
	if len(udp) == 0 || e == nil {
		return
	}
	n.wg.Go(func() {
		c, err := conntrack.Dial()
		if err != nil {
			n.log.Warn("cannot reach connection tracking", "error", err)
			return
		}
		defer c.Close()
		span := trace.Begin(trace.Net, "forget connections", e.Link)
		errs := []error{c.ForgetFrom(unix.IPPROTO_UDP, e.IPv4.Addr())}
		for _, p := range udp {
			errs = append(errs, c.ForgetTo(unix.IPPROTO_UDP, p))
		}
		if err := span.End(errors.Join(errs...)); err != nil {
			n.log.Warn("cannot forget the UDP connections to published ports", "link", e.Link, "error", err)
		}
	})
}

// Restore keeps the endpoints of the containers in live and releases all
// others. Links that belong to nobody are removed in the background, after the
// kernel had time to do so itself. It is called once, before the first
// Connect.
func (n *Networks) Restore(ctx context.Context, live map[string]bool) error {
	var errs []error
	for _, id := range n.Containers() {
		if !live[id] {
			errs = append(errs, n.Release(ctx, id))
		}
	}
	n.recall()
	background, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	grants := n.recallGrants()
	n.wg.Go(func() { grants(background) })
	if len(n.allBridges()) > 0 {
		n.wg.Go(func() { n.sweep(background) })
	}
	return errors.Join(errs...)
}

// ours reports whether a link of a list is one of this engine's: its name says
// so, and it is no port of another bridge. Of 32,768 engines two have the same
// names.
func (n *Networks) ours(l netlink.Link, links []netlink.Link) bool {
	if !strings.HasPrefix(l.Name, LinkPrefix(n.c.Bridge)) {
		return false
	}
	i := slices.IndexFunc(links, func(m netlink.Link) bool { return m.Index == l.Master })
	return i < 0 || slices.ContainsFunc(n.allBridges(), func(b *bridge) bool { return b.link == links[i].Name })
}

// ourIFB reports whether a link is an ifb of this engine: one whose name says so,
// and whose link is not another engine's.
func (n *Networks) ourIFB(l netlink.Link, links []netlink.Link) bool {
	return strings.HasPrefix(l.Name, IFBPrefix(n.c.Bridge)) && !slices.ContainsFunc(links, func(v netlink.Link) bool {
		return strings.HasPrefix(v.Name, linkKind) && ifbOf(v.Name) == l.Name && !n.ours(v, links)
	})
}

// sweep brings limits to what the records say, and removes the links of earlier
// processes of this engine that no endpoint has: something still holds their
// namespaces, and may answer to an address that another container gets.
func (n *Networks) sweep(ctx context.Context) {
	const patience = 2 * time.Second
	n.reshape()
	select {
	case <-time.After(patience):
	case <-ctx.Done():
		return
	}
	links, err := n.rt.Links()
	if err != nil {
		n.log.Warn("cannot list the network interfaces", "error", err)
		return
	}
	known := map[string]bool{}
	n.mu.Lock()
	for _, c := range n.containers {
		for _, r := range c.Endpoints {
			known[r.Link] = true
			known[ifbOf(r.Link)] = true // reshape has seen to it
		}
	}
	prefixes := slices.Clone(n.prefixes)
	n.mu.Unlock()
	n.lookAll()
	for _, l := range links {
		now := slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(l.Name, p) || strings.HasPrefix(l.Name, ifbOf(p)) })
		if (n.ours(l, links) || n.ourIFB(l, links)) && !now && !known[l.Name] {
			if err := delLink(n.rt, l); err != nil {
				n.log.Warn("cannot remove a network interface that belongs to nobody", "link", l.Name, "error", err)
			}
		}
	}
}
