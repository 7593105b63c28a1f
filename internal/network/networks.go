package network

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/ids"
	"lade/internal/linux/netlink"
	"lade/internal/linux/nft"
	"lade/internal/network/gate"
	"lade/internal/store"
	"lade/internal/trace"
)

// Networks are the networks of one engine.
type Networks struct {
	books
	c     Config
	log   *slog.Logger
	rt    *netlink.Conn
	wall  *firewall // nil without any bridge
	ports *ports

	changing sync.Mutex // networks are created and removed one after the other

	changed func(name string) // see OnChange; books.mu guards these two, too
	visit   Visit             // see Visits

	shaper shaper
	ipsec  ipsec
	grants grants
	holds  holds

	gate   *gate.Client           // nil without a program
	policy atomic.Pointer[string] // of ports that none is said of

	mending sync.Mutex // taken before bridge.repairing
	ending  bool       // nothing is mended any more

	monitor *nft.Monitor
	links   *netlink.Monitor
	claim   *nft.Conn          // to the bridge's name; nil without
	cancel  context.CancelFunc // of what Restore began
	wg      sync.WaitGroup
}

// New makes or repairs the bridges and the table, loads the records and starts
// to fill the pool. It is idempotent, also after a crash. ctx is not kept.
// Errors: Invalid for an unusable configuration.
func New(ctx context.Context, c Config) (_ *Networks, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.PoolSize = cmp.Or(c.PoolSize, 16)
	if !c.DefaultBind.IsValid() {
		c.DefaultBind = netip.IPv4Unspecified()
	}
	n := &Networks{
		books: books{
			disabled: c.Disabled, records: map[string]networkRecord{}, bridges: map[string]*bridge{},
			containers: map[string]*containerRecord{}, leases: map[string]*lease{},
		},
		c: c, log: c.Logger, ports: newPorts(), cancel: func() {},
		grants: grants{store: c.Store, plugins: c.Plugins, log: c.Logger},
		holds:  holds{store: c.Store, plugins: c.Plugins, cni: c.CNI, log: c.Logger},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if n.rt, err = netlink.Dial(unix.NETLINK_ROUTE); err != nil {
		return nil, err
	}
	n.shaper.rt, n.shaper.log = n.rt, n.log
	if n.claim, err = claimed(c.Bridge, n.log); err != nil {
		return nil, err
	}
	if err := n.SetPublishPolicy(c.PublishPolicy); err != nil {
		return nil, err
	}
	if err := n.load(ctx); err != nil {
		return nil, err
	}
	if n.def != nil {
		if err := n.crowded(n.def); err != nil {
			return nil, err
		}
	}
	if err := n.makeBridges(ctx); err != nil {
		return nil, err
	}
	if n.def != nil {
		if _, err := n.poolOf(n.def); err != nil {
			return nil, err
		}
	}
	n.tellConflicts()
	return n, n.listen()
}

// load reads the containers' endpoints, and reads or writes the networks.
func (n *Networks) load(ctx context.Context) error {
	for id, v := range n.c.Store.Walk(endpointBucket) {
		r := &containerRecord{}
		if err := json.Unmarshal(v, r); err != nil {
			return errdefs.DataLossf("endpoints of container %s: %w", id, err)
		}
		n.containers[id] = r
	}
	for name, v := range n.c.Store.Walk(networkBucket) {
		var r networkRecord
		if err := json.Unmarshal(v, &r); err != nil {
			return errdefs.DataLossf("network %s: %w", name, err)
		}
		if r.User != nil || slices.Contains(n.predefined(), name) {
			n.records[name] = r
		}
	}
	var b store.Batch
	for _, name := range n.predefined() {
		r, known := n.records[name]
		before := r
		if !known {
			r.ID, r.Created = ids.New(), time.Now().UTC()
		}
		if name == network.NetworkBridge {
			bip, err := choose(n.rt, n.c, r, n.subnets())
			if err != nil {
				return err
			}
			bip6, err := n.choose6(r.BIP6)
			if err != nil {
				return err
			}
			if n.def, err = n.newDefault(r, bip, bip6); err != nil {
				return err
			}
			r.BIP, r.BIP6 = bip, bip6
			n.bridges[name] = n.def
		}
		n.records[name] = r
		if r != before {
			if err := putNetwork(&b, name, r); err != nil {
				return err
			}
		}
	}
	for name, r := range n.records {
		if r.User == nil || r.User.Held != nil {
			continue
		}
		br, err := n.newBridge(name, r)
		if err != nil {
			return errdefs.DataLossf("network %s: %w", name, err)
		}
		n.bridges[name] = br
	}
	return n.c.Store.Commit(ctx, &b)
}

// newDefault returns the default bridge as the configuration has it.
func (n *Networks) newDefault(r networkRecord, bip, bip6 netip.Prefix) (*bridge, error) {
	if err := checkBridge(n.c.Bridge); err != nil {
		return nil, err
	}
	b := &bridge{
		network: network.NetworkBridge, id: r.ID, link: n.c.Bridge, plain: n.c.NoRules4, mtu: n.c.MTU, icc: n.c.ICC, bind: n.c.DefaultBind, limits: n.c.Limits,
		v4: side{block: block{subnet: bip.Masked(), address: bip, gateway: bip.Addr()}, masq: n.c.IPMasq, mode: modeNAT},
	}
	if n.c.Gateway.IsValid() {
		b.v4.gateway = n.c.Gateway
	}
	if r.Made { // else it is not ours
		b.was, b.was6 = r.BIP, r.BIP6
	}
	if bip6.IsValid() {
		if err := n.inet6(b, bip6); err != nil {
			return nil, err
		}
	}
	return b, b.v4.open(n.c.FixedCIDR, bip.Addr(), b.v4.gateway)
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// makeBridges brings the kernel, the addresses and the ports to what
// configuration and records say.
func (n *Networks) makeBridges(ctx context.Context) (err error) {
	kept, err := n.findGate()
	if err != nil {
		return err
	}
	for id, c := range n.containers {
		n.keep(id, c, kept)
	}
	if n.def == nil && len(n.bridges) == 0 {
		return n.resumeGate(kept)
	}
	if err := n.raise(); err != nil {
		return err
	}
	for _, b := range n.allBridges() {
		n.follow(b)
		if err := n.makeBridge(ctx, b); err != nil {
			if b == n.def {
				return err
			}
			// The others work, and this one when its first container comes.
			n.log.Error("cannot make the link of a network", "network", b.network, "link", b.hostLink(), "error", err)
		}
	}
	if err := n.guard(); err != nil {
		return err
	}
	return n.resumeGate(kept)
}

// raise opens nftables. Errors: NotImplemented where the kernel has none.
func (n *Networks) raise() (err error) {
	if n.wall == nil {
		n.wall, err = newFirewall(n.c)
	}
	return err
}

// guard makes the tables, and watches them.
func (n *Networks) guard() (err error) {
	all := newPublished()
	for _, c := range n.containers {
		all.join(n.rules(c))
	}
	if err := n.wall.replace(n.policies(), all); err != nil {
		return fmt.Errorf("make nftables table %s (nf_tables with nat, masq, fib and ct is needed): %w", n.wall.table, err)
	}
	if n.wall.conn == nil {
		return nil
	}
	if n.monitor, err = nft.Watch(); err != nil {
		return err
	}
	n.wg.Go(func() { n.wall.watch(n.monitor) })
	return nil
}

// keep takes again what a container's record says that it has; kept are the
// sockets that the gate had.
func (n *Networks) keep(id string, c *containerRecord, kept map[gate.Key]*os.File) {
	for _, e := range c.Endpoints {
		b := n.bridges[e.Network]
		if b == nil {
			continue
		}
		b.users++
		for _, six := range families() {
			if ip := e.addr(six); ip.IsValid() && b.side(six).addrs != nil {
				if _, err := b.side(six).take(ip, nil); err != nil {
					n.log.Warn("the address of a container is not its own", "container", id, "address", ip, "error", err)
				}
			}
		}
	}
	for _, b := range c.Ports {
		h := b.host()
		var f *os.File
		if b.Served {
			f = kept[h.gateKey()]
			delete(kept, h.gateKey())
		}
		if err := n.ports.keep(h, b.Served, f); err != nil {
			n.log.Warn("a published port is also used by a program of the host", "container", id, "port", h.AddrPort, "error", err)
		}
	}
}

// makeBridge makes the link of a network, and notes whether it was there.
func (n *Networks) makeBridge(ctx context.Context, b *bridge) error {
	link, made, err := b.make(n.rt)
	if b.foreign != nil {
		return nil
	}
	if err == nil && b.children != nil {
		return n.setMade(ctx, b.network, made || n.madeBy(b.network) || n.inherits(b))
	}
	if err == nil && made && len(n.linksOf(b)) > 0 {
		err = n.rejoin(b, link.Index)
	}
	if err != nil {
		return err
	}
	if err := b.limits.Check(b.mtu); err != nil {
		return err
	}
	if n.c.IPForward {
		for _, six := range families() {
			if b.side(six).subnet.IsValid() {
				if err := forward(six); err != nil {
					return err
				}
			}
		}
	}
	if !made {
		return nil
	}
	return n.setMade(ctx, b.network, true)
}

// setMade records whether a network's bridge is ours to remove.
func (n *Networks) setMade(ctx context.Context, name string, made bool) error {
	n.mu.Lock()
	r := n.records[name]
	if r.Made == made {
		n.mu.Unlock()
		return nil
	}
	r.Made = made
	n.records[name] = r
	n.mu.Unlock()
	var b store.Batch
	if err := putNetwork(&b, name, r); err != nil {
		return err
	}
	return n.c.Store.Commit(ctx, &b)
}

// poolOf returns the pool of a bridge, which is made and started now unless it
// was.
func (n *Networks) poolOf(b *bridge) (*pool, error) {
	b.starting.Lock()
	defer b.starting.Unlock()
	if b.pool != nil {
		return b.pool, nil
	}
	link, _, err := b.make(n.rt)
	if err != nil {
		return nil, err
	}
	links, err := n.rt.Links()
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	for _, p := range n.prefixes {
		links = append(links, netlink.Link{Name: p})
	}
	prefix := ownPrefix(LinkPrefix(n.c.Bridge), links, rand.Uint32)
	n.prefixes = append(n.prefixes, prefix)
	n.mu.Unlock()
	p, err := newPool(n.log, link, poolConfig{prefix: prefix, mtu: b.mtu, isolated: !b.icc, inet6: b.v6.subnet.IsValid(), repair: func() error { return n.repair(b) }})
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	b.pool = p
	n.mu.Unlock()
	size := n.c.PoolSize
	if b != n.def {
		size = min(size, networkPool)
	}
	p.start(size)
	return p, nil
}

// Close ends the pool and gives the sockets back. What running containers need
// stays in the kernel, and their records in the store. Without any container
// the table goes, too; the bridge stays.
func (n *Networks) Close() error {
	n.cancel()
	errs := []error{n.deaf()}
	if n.monitor != nil {
		errs = append(errs, n.monitor.Close())
	}
	n.wg.Wait()
	n.mu.Lock()
	for id, l := range n.leases {
		l.slot.close()
		delete(n.leases, id)
	}
	n.mu.Unlock()
	n.closePools()
	if n.gate != nil {
		errs = append(errs, n.gate.Shut())
	}
	n.ports.close()
	errs = append(errs, n.ipsec.close())
	if n.wall != nil {
		if n.idle() {
			errs = append(errs, n.wall.destroy())
		}
		errs = append(errs, n.wall.close())
	}
	if n.rt != nil {
		errs = append(errs, n.rt.Close())
	}
	if n.claim != nil {
		errs = append(errs, n.claim.Close())
	}
	return errors.Join(errs...)
}

func (n *Networks) closePools() {
	for _, b := range n.allBridges() {
		b.across.stay()
		if b.pool != nil {
			b.pool.close()
		}
	}
}

// Destroy closes n and removes table, links and endpoints of this engine, and
// the bridges unless they were there before. The networks stay recorded: the
// next New makes their bridges again. Containers that still run lose their
// network.
func (n *Networks) Destroy(ctx context.Context) error {
	errs := []error{n.deaf()} // of what goes now
	n.closePools()
	if n.wall != nil {
		errs = append(errs, n.wall.destroy())
	}
	links, err := n.rt.Links()
	errs = append(errs, err)
	made := map[string][]string{} // link to networks
	for _, b := range n.allBridges() {
		errs = append(errs, b.across.leave(n.rt))
		errs = append(errs, n.ipsec.unsecure(b.across, func() []*across { return nil }))
		if n.records[b.network].Made {
			made[b.hostLink()] = append(made[b.hostLink()], b.network)
		}
	}
	for _, l := range links {
		if made[l.Name] != nil || n.ours(l, links) || n.ourIFB(l, links) {
			errs = append(errs, delLink(n.rt, l))
		}
		for _, name := range made[l.Name] {
			errs = append(errs, n.setMade(ctx, name, false))
		}
	}
	n.mu.Lock()
	var b store.Batch
	for id, c := range n.containers {
		b.Delete(endpointBucket, id)
		for _, e := range c.Endpoints {
			if br := n.bridges[e.Network]; br != nil {
				br.users--
			}
		}
	}
	gone := n.containers
	n.containers = map[string]*containerRecord{}
	n.mu.Unlock()
	for _, c := range gone {
		errs = append(errs, n.serve(c, &containerRecord{}))
	}
	errs = append(errs, n.c.Store.Commit(ctx, &b), n.Close())
	return errors.Join(errs...)
}

// delLink removes a link; the kernel may have done so meanwhile.
func delLink(rt *netlink.Conn, l netlink.Link) error {
	var r netlink.Request
	r.DelLink(l.Index)
	err := trace.Begin(trace.Net, "delete link", l.Name).End(rt.Do(&r))
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// counters turns round those of the host's end.
func counters(s netlink.Stats) Counters {
	return Counters{
		RxBytes: s.TxBytes, RxPackets: s.TxPackets, RxErrors: s.TxErrors, RxDropped: s.TxDropped,
		TxBytes: s.RxBytes, TxPackets: s.RxPackets, TxErrors: s.RxErrors, TxDropped: s.RxDropped,
	}
}

// inner are the counters of the interface in the container itself.
func inner(s netlink.Stats) Counters {
	return Counters{
		RxBytes: s.RxBytes, RxPackets: s.RxPackets, RxErrors: s.RxErrors, RxDropped: s.RxDropped,
		TxBytes: s.TxBytes, TxPackets: s.TxPackets, TxErrors: s.TxErrors, TxDropped: s.TxDropped,
	}
}

// subtract takes away what came in before.
func (c *Counters) subtract(noise Counters) {
	c.RxBytes -= min(c.RxBytes, noise.RxBytes)
	c.RxPackets -= min(c.RxPackets, noise.RxPackets)
	c.RxErrors -= min(c.RxErrors, noise.RxErrors)
	c.RxDropped -= min(c.RxDropped, noise.RxDropped)
}
