package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
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

// Connect gives a container its namespace, address and published ports. On
// error nothing remains. From the pool it takes a fraction of a millisecond;
// ctx is looked at before it begins.
//
// Errors: NotFound for the network, Conflict when the container is connected,
// Exhausted without a free address, Invalid for a request that cannot be,
// Internal with Docker's words for a port that is taken ("driver failed
// programming external connectivity on endpoint …").
func (n *Networks) Connect(ctx context.Context, r Request) (*Endpoint, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name, err := n.Resolve(r.Network)
	if err != nil {
		return nil, err
	}
	if _, ok := n.Endpoint(r.ContainerID); ok {
		return nil, errdefs.Conflictf("container %s is already connected to a network", r.ContainerID)
	}
	limits, err := n.Limits(name, r.Rates)
	if err != nil {
		return nil, err
	}
	rec := &endpointRecord{ID: ids.New(), Sandbox: ids.New(), Name: r.Name, Network: name, Limits: limits}
	var (
		ns    *os.File
		held  *slot
		steps undo
	)
	switch name {
	case network.NetworkHost:
	case network.NetworkNone:
		if ns, err = isolated(madeIn(r.NetNS)); err == nil {
			steps.add(func() { ns.Close() })
		}
	default:
		if held, err = n.attach(r, rec, &steps); err == nil {
			if ns, err = netns.Duplicate(held.ns); err == nil {
				steps.add(func() { ns.Close() })
			}
		}
	}
	if err == nil && ns != nil {
		err = setSysctls(ns, r.Sysctls)
	}
	failpoint.Hit("network.connect")
	if err == nil {
		err = rec.put(n.c.Store, r.ContainerID)
	}
	failpoint.Hit("network.connected")
	if err != nil {
		steps.run()
		return nil, err
	}
	n.mu.Lock()
	n.endpoints[r.ContainerID] = rec
	if held != nil {
		n.leases[r.ContainerID] = &lease{slot: held, changed: len(r.Sysctls) > 0 || rec.Limits.Any()}
	}
	n.mu.Unlock()
	n.forget(rec)
	e := n.endpoint(rec)
	e.NetNS = ns
	return e, nil
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

// attach takes an address, ports and a slot for an endpoint on the bridge,
// completes its record and returns the slot. steps takes all of it back, also
// after an error.
func (n *Networks) attach(r Request, rec *endpointRecord, steps *undo) (*slot, error) {
	ip, err := n.takeAddr(r.IPv4)
	if err != nil {
		return nil, err
	}
	steps.add(func() { n.releaseAddr(ip) })
	rec.IPv4 = netip.PrefixFrom(ip, n.bip.Bits())
	mac := r.MAC
	if mac == nil {
		mac = hardware(ip)
	}
	rec.MAC = mac.String()

	for _, p := range r.Ports {
		b, err := n.bind(p, ip)
		if err != nil {
			return nil, fmt.Errorf("driver failed programming external connectivity on endpoint %s (%s): %w", r.Name, rec.ID, err)
		}
		steps.add(func() { n.ports.release(b.host()) })
		rec.Ports = append(rec.Ports, b)
	}

	s, err := n.slotFor(r.NetNS)
	if err != nil {
		return nil, fmt.Errorf("prepare a network namespace: %w", err)
	}
	steps.add(s.close)
	rec.Link, rec.Noise = s.link, s.noise
	if rec.Limits.Any() { // before the first packet
		steps.add(func() { n.unshape(s.link) })
		if err := n.shape(s.link, rec.Limits); err != nil {
			return nil, fmt.Errorf("limit %s: %w", s.link, err)
		}
	}
	if err := s.address(mac, rec.IPv4, n.gateway); err != nil {
		return nil, fmt.Errorf("configure %s with %s and gateway %s: %w", inside, rec.IPv4, n.gateway, err)
	}
	if err := n.wall.add(rec.elements()); err != nil {
		return nil, fmt.Errorf("publish the ports of %s: %w", r.Name, err)
	}
	steps.add(func() {
		if err := n.wall.remove(rec.hostPorts()); err != nil {
			n.log.Warn("cannot take back a published port", "container", r.ContainerID, "error", err)
		}
	})
	return s, nil
}

// slotFor returns a slot of the pool, or one in a namespace that is given.
func (n *Networks) slotFor(ns *os.File) (*slot, error) {
	if ns == nil {
		return n.pool.take()
	}
	return n.pool.make(madeIn(ns))
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

func (n *Networks) bind(p Publish, to netip.Addr) (binding, error) {
	ip := p.HostIP
	if !ip.IsValid() {
		ip = n.c.DefaultBind
	}
	if err := p.check(ip); err != nil {
		return binding{}, err
	}
	return n.ports.bind(p, ip, to)
}

func (n *Networks) takeAddr(want netip.Addr) (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !want.IsValid() {
		return n.addrs.Next()
	}
	return want, n.addrs.Take(want)
}

func (n *Networks) releaseAddr(ip netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs.Release(ip)
}

// Release gives back the address and the ports of a container that ended. It
// is idempotent and never waits for the namespace to go away.
func (n *Networks) Release(_ context.Context, containerID string) error {
	n.mu.Lock()
	r, ok := n.endpoints[containerID]
	l := n.leases[containerID]
	delete(n.endpoints, containerID)
	delete(n.leases, containerID)
	n.mu.Unlock()
	if !ok {
		return nil
	}
	var again *slot
	var errs []error
	if r.IPv4.IsValid() && n.wall != nil {
		// First the packets, then what others may take.
		errs = append(errs, n.wall.remove(r.hostPorts()))
		for _, h := range r.hostPorts() {
			n.ports.release(h)
		}
		n.forget(r)
		if r.Limits.Out != 0 { // in the background: the kernel takes its time
			n.wg.Go(func() { n.unshape(r.Link) })
		}
		again = n.reuse(l, r)
		n.releaseAddr(r.IPv4.Addr())
	}
	failpoint.Hit("network.release")
	var b store.Batch
	b.Delete(endpointBucket, containerID)
	errs = append(errs, n.c.Store.Append(&b))
	if again != nil {
		n.pool.put(again)
	}
	return errors.Join(errs...)
}

// forget makes the kernel decide anew where the datagrams to an endpoint's UDP
// ports go, in the background: a client that sends all the time would else
// never notice that the ports were published, or taken back.
func (n *Networks) forget(r *endpointRecord) {
	var udp []uint16
	for _, b := range r.Ports {
		if b.Proto == "udp" {
			udp = append(udp, b.HostPort)
		}
	}
	if len(udp) == 0 {
		return
	}
	n.wg.Go(func() {
		c, err := conntrack.Dial()
		if err != nil {
			n.log.Warn("cannot reach connection tracking", "error", err)
			return
		}
		defer c.Close()
		span := trace.Begin(trace.Net, "forget connections", r.Link)
		errs := []error{c.ForgetFrom(unix.IPPROTO_UDP, r.IPv4.Addr())}
		for _, p := range udp {
			errs = append(errs, c.ForgetTo(unix.IPPROTO_UDP, p))
		}
		if err := span.End(errors.Join(errs...)); err != nil {
			n.log.Warn("cannot forget the UDP connections to published ports", "link", r.Link, "error", err)
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
	if n.pool != nil {
		sweep, cancel := context.WithCancel(context.Background())
		n.cancel = cancel
		n.wg.Go(func() { n.sweep(sweep) })
	}
	return errors.Join(errs...)
}

// ours reports whether a link is one of this engine's: its name says so, and it
// is no port of another bridge. Of 32,768 engines two have the same names.
func (n *Networks) ours(l netlink.Link) bool {
	return strings.HasPrefix(l.Name, LinkPrefix(n.c.Bridge)) && (l.Master == 0 || l.Master == int(n.pool.bridge.Load()))
}

// ourIFB reports whether a link is an ifb of this engine: one whose name says so,
// and whose link is not another engine's.
func (n *Networks) ourIFB(l netlink.Link, links []netlink.Link) bool {
	return strings.HasPrefix(l.Name, IFBPrefix(n.c.Bridge)) && !slices.ContainsFunc(links, func(v netlink.Link) bool {
		return strings.HasPrefix(v.Name, linkKind) && ifbOf(v.Name) == l.Name && !n.ours(v)
	})
}

// sweep brings limits to what the records say, and removes the links of earlier
// processes of this engine that no endpoint
// has: something still holds their namespaces, and may answer to an address
// that another container gets.
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
	for _, r := range n.endpoints {
		known[r.Link] = true
		known[ifbOf(r.Link)] = true // reshape has seen to it
	}
	n.mu.Unlock()
	for _, l := range links {
		now := strings.HasPrefix(l.Name, n.pool.prefix) || strings.HasPrefix(l.Name, ifbOf(n.pool.prefix))
		if (n.ours(l) || n.ourIFB(l, links)) && !now && !known[l.Name] {
			if err := n.delLink(l); err != nil {
				n.log.Warn("cannot remove a network interface that belongs to nobody", "link", l.Name, "error", err)
			}
		}
	}
}
