package network

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/ids"
	"lade/internal/linux/netlink"
	"lade/internal/linux/nft"
	"lade/internal/network/ipam"
	"lade/internal/store"
	"lade/internal/trace"
)

// Networks are the networks of one engine.
type Networks struct {
	c       Config
	log     *slog.Logger
	rt      *netlink.Conn
	records map[string]networkRecord // by name; not changed after New
	bip     netip.Prefix             // address of the bridge
	was     netip.Prefix             // its address before this configuration
	mtu     int
	gateway netip.Addr
	wall    *firewall // nil without a bridge, like pool
	pool    *pool
	ports   *ports

	mu        sync.Mutex
	addrs     *ipam.Allocator
	endpoints map[string]*endpointRecord // by container; a record is replaced, never changed
	leases    map[string]*lease          // by container: what it has of the pool

	repairing sync.Mutex // one repairBridge at a time
	shaping   sync.Mutex // limits and their records change one after the other

	monitor *nft.Monitor
	cancel  context.CancelFunc // of what Restore began
	wg      sync.WaitGroup
}

// New makes or repairs the bridge and the table, loads the records and starts
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
	n := &Networks{c: c, log: c.Logger, ports: newPorts(), endpoints: map[string]*endpointRecord{}, leases: map[string]*lease{}, cancel: func() {}}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if n.rt, err = netlink.Dial(unix.NETLINK_ROUTE); err != nil {
		return nil, err
	}
	if err := n.load(ctx); err != nil {
		return nil, err
	}
	if c.Disabled {
		return n, nil
	}
	if err := n.makeBridge(ctx); err != nil {
		return nil, err
	}
	n.pool.start(c.PoolSize)
	return n, nil
}

// load reads the endpoints, and reads or writes the networks.
func (n *Networks) load(ctx context.Context) error {
	for id, v := range n.c.Store.Walk(endpointBucket) {
		r := &endpointRecord{}
		if err := json.Unmarshal(v, r); err != nil {
			return errdefs.DataLossf("endpoint of container %s: %w", id, err)
		}
		n.endpoints[id] = r
	}
	n.records = map[string]networkRecord{}
	var changed []string
	for _, name := range n.names() {
		var r networkRecord
		if v, ok := n.c.Store.Get(networkBucket, name); ok {
			if err := json.Unmarshal(v, &r); err != nil {
				return errdefs.DataLossf("network %s: %w", name, err)
			}
		}
		before := r
		if r.ID == "" {
			r.ID, r.Created = ids.New(), time.Now().UTC()
		}
		if name == network.NetworkBridge {
			bip, err := choose(n.rt, n.c, r.BIP)
			if err != nil {
				return err
			}
			if r.Made { // else it is not ours
				n.was = r.BIP
			}
			n.bip, r.BIP = bip, bip
		}
		n.records[name] = r
		if r != before {
			changed = append(changed, name)
		}
	}
	return n.putNetworks(ctx, changed...)
}

// putNetworks writes the records of networks durably.
func (n *Networks) putNetworks(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	var b store.Batch
	for _, name := range names {
		v, err := json.Marshal(n.records[name])
		if err != nil {
			return err
		}
		b.Put(networkBucket, name, v)
	}
	return n.c.Store.Commit(ctx, &b)
}

// names returns the networks' names in the order in which Docker lists them.
func (n *Networks) names() []string {
	if n.c.Disabled {
		return []string{network.NetworkNone, network.NetworkHost}
	}
	return []string{network.NetworkNone, network.NetworkHost, network.NetworkBridge}
}

// makeBridge brings the kernel, the addresses and the ports to what
// configuration and records say.
func (n *Networks) makeBridge(ctx context.Context) (err error) {
	if err := checkBridge(n.c.Bridge); err != nil {
		return err
	}
	n.gateway = n.bip.Addr()
	if n.c.Gateway.IsValid() {
		n.gateway = n.c.Gateway
	}
	if n.addrs, err = ipam.New(n.bip, n.c.FixedCIDR); err != nil {
		return err
	}
	for _, ip := range []netip.Addr{n.bip.Addr(), n.gateway} {
		if err := n.addrs.Take(ip); err != nil && !errors.Is(err, errdefs.Forbidden) {
			return err
		}
	}
	published := map[hostPort]netip.AddrPort{}
	for id, r := range n.endpoints {
		if !r.IPv4.IsValid() {
			continue
		}
		if err := n.addrs.Take(r.IPv4.Addr()); err != nil {
			n.log.Warn("the address of a container is not its own", "container", id, "address", r.IPv4, "error", err)
		}
		for h, to := range r.elements() {
			published[h] = to
			if err := n.ports.keep(h); err != nil {
				n.log.Warn("a published port is also used by a program of the host", "container", id, "port", h.AddrPort, "error", err)
			}
		}
	}
	bridge, made, err := makeBridge(n.rt, n.c.Bridge, n.bip, n.was, n.c.MTU)
	if err != nil {
		return err
	}
	n.mtu = bridge.MTU
	if err := n.c.Limits.Check(n.mtu); err != nil {
		return err
	}
	if r := n.records[network.NetworkBridge]; made && !r.Made {
		r.Made = true
		n.records[network.NetworkBridge] = r
		if err := n.putNetworks(ctx, network.NetworkBridge); err != nil {
			return err
		}
	}
	if err := setHost(n.c); err != nil {
		return err
	}
	n.wall, err = newFirewall(policy{bridge: n.c.Bridge, subnet: n.bip.Masked(), icc: n.c.ICC, ipMasq: n.c.IPMasq}, n.log)
	if err != nil {
		return err
	}
	if err := n.wall.replace(published); err != nil {
		return fmt.Errorf("make nftables table %s (nf_tables with nat, masq, fib and ct is needed): %w", n.wall.table, err)
	}
	if n.pool, err = newPool(n.log, bridge, n.mtu, !n.c.ICC, n.repairBridge); err != nil {
		return err
	}
	if n.monitor, err = nft.Watch(); err != nil {
		return err
	}
	n.wg.Go(func() { n.wall.watch(n.monitor) })
	return nil
}

// repairBridge makes the bridge anew when somebody removed it, and puts all of
// our links back into it.
func (n *Networks) repairBridge() error {
	n.repairing.Lock()
	defer n.repairing.Unlock()
	bridge, _, err := makeBridge(n.rt, n.c.Bridge, n.bip, n.bip, n.mtu)
	if err != nil {
		return err
	}
	if n.pool.bridge.Swap(int64(bridge.Index)) == int64(bridge.Index) {
		return nil
	}
	n.log.Warn("somebody removed the bridge; it is made anew", "bridge", n.c.Bridge)
	links, err := n.rt.Links()
	errs := []error{setHost(n.c), err}
	for _, l := range links {
		if !n.ours(l) {
			continue
		}
		var r netlink.Request
		r.AddPort(l.Index, "", bridge.Index)
		r.SetPort(l.Index, "", true, !n.c.ICC)
		err := trace.Begin(trace.Net, "attach", l.Name).End(n.rt.Do(&r))
		if !errors.Is(err, unix.ENODEV) { // its container ended meanwhile
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Close ends the pool and gives the sockets back. What running containers need
// stays in the kernel, and their records in the store. Without any container
// the table goes, too; the bridge stays.
func (n *Networks) Close() error {
	n.cancel()
	var errs []error
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
	if n.pool != nil {
		n.pool.close()
	}
	n.ports.close()
	if n.wall != nil {
		if n.idle() {
			errs = append(errs, n.wall.destroy())
		}
		errs = append(errs, n.wall.close())
	}
	if n.rt != nil {
		errs = append(errs, n.rt.Close())
	}
	return errors.Join(errs...)
}

// idle reports whether no container is connected to the bridge.
func (n *Networks) idle() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.endpoints {
		if r.IPv4.IsValid() {
			return false
		}
	}
	return true
}

// Destroy closes n and removes table, links and records of this engine, and the
// bridge unless it was there before.
// Containers that still run lose their network.
func (n *Networks) Destroy(ctx context.Context) error {
	var errs []error
	if n.wall != nil {
		n.pool.close()
		errs = append(errs, n.wall.destroy())
		links, err := n.rt.Links()
		errs = append(errs, err)
		for _, l := range links {
			if l.Name == n.c.Bridge && n.records[network.NetworkBridge].Made || n.ours(l) || n.ourIFB(l, links) {
				errs = append(errs, n.delLink(l))
			}
		}
	}
	n.mu.Lock()
	var b store.Batch
	for id := range n.endpoints {
		b.Delete(endpointBucket, id)
	}
	n.endpoints = map[string]*endpointRecord{}
	n.mu.Unlock()
	for name := range n.records {
		b.Delete(networkBucket, name)
	}
	errs = append(errs, n.c.Store.Commit(ctx, &b), n.Close())
	return errors.Join(errs...)
}

// delLink removes a link; the kernel may have done so meanwhile.
func (n *Networks) delLink(l netlink.Link) error {
	var r netlink.Request
	r.DelLink(l.Index)
	err := trace.Begin(trace.Net, "delete link", l.Name).End(n.rt.Do(&r))
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// List returns the networks, without their containers.
func (n *Networks) List() []network.Summary {
	var out []network.Summary
	for _, name := range n.names() {
		out = append(out, network.Summary{Network: n.describe(name)})
	}
	return out
}

// describe returns what the API says of a network, in Docker's words.
func (n *Networks) describe(name string) network.Network {
	r := n.records[name]
	d := network.Network{
		Name: name, ID: r.ID, Created: r.Created, Scope: "local", Driver: name, EnableIPv4: true,
		IPAM: network.IPAM{Driver: "default"}, Options: map[string]string{}, Labels: map[string]string{},
	}
	switch name {
	case network.NetworkNone:
		d.Driver = "null"
	case network.NetworkBridge:
		c := network.IPAMConfig{Subnet: n.bip.Masked(), Gateway: n.gateway}
		if n.c.FixedCIDR.IsValid() {
			c.IPRange = n.c.FixedCIDR.Masked()
		}
		d.IPAM.Config = []network.IPAMConfig{c}
		d.Options = map[string]string{
			"com.docker.network.bridge.default_bridge":       "true",
			"com.docker.network.bridge.enable_icc":           strconv.FormatBool(n.c.ICC),
			"com.docker.network.bridge.enable_ip_masquerade": strconv.FormatBool(n.c.IPMasq),
			"com.docker.network.bridge.host_binding_ipv4":    n.c.DefaultBind.String(),
			"com.docker.network.bridge.name":                 n.c.Bridge,
			"com.docker.network.driver.mtu":                  strconv.Itoa(n.mtu),
		}
		maps.Copy(d.Options, n.networkLimits(name).Options())
	}
	return d
}

// Resolve returns the name of the network with a name, an id, or a unique
// prefix of an id; "" and "default" are the bridge. Errors: NotFound, Invalid
// for an ambiguous prefix.
func (n *Networks) Resolve(name string) (string, error) {
	if name == "" || name == network.NetworkDefault {
		name = network.NetworkBridge
	}
	if _, ok := n.records[name]; ok {
		return name, nil
	}
	var found []string
	for have, r := range n.records {
		if r.ID == name {
			return have, nil
		}
		if strings.HasPrefix(r.ID, name) {
			found = append(found, have)
		}
	}
	switch len(found) {
	case 0:
		return "", errdefs.NotFoundf("network %s not found", name)
	case 1:
		return found[0], nil
	}
	return "", errdefs.Invalidf("network %s is ambiguous (%d matches found based on ID prefix)", name, len(found))
}

// Inspect returns a network and its containers. Errors: as Resolve.
func (n *Networks) Inspect(name string) (*network.Inspect, error) {
	name, err := n.Resolve(name)
	if err != nil {
		return nil, err
	}
	in := &network.Inspect{Network: n.describe(name), Containers: map[string]network.EndpointResource{}}
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, r := range n.endpoints {
		if r.Network == name {
			in.Containers[id] = network.EndpointResource{
				Name: r.Name, EndpointID: r.ID, MacAddress: network.HardwareAddr(r.mac()), IPv4Address: r.IPv4,
			}
		}
	}
	return in, nil
}

// Gateway returns the address of the default bridge, which "host-gateway"
// stands for; zero when there is none.
func (n *Networks) Gateway() netip.Addr { return n.bip.Addr() }

// Endpoint returns a container's endpoint, without NetNS.
func (n *Networks) Endpoint(containerID string) (*Endpoint, bool) {
	r, ok := n.record(containerID)
	if !ok {
		return nil, false
	}
	return n.endpoint(r), true
}

func (n *Networks) record(containerID string) (*endpointRecord, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r, ok := n.endpoints[containerID]
	return r, ok
}

func (n *Networks) endpoint(r *endpointRecord) *Endpoint {
	e := &Endpoint{
		NetworkID: n.records[r.Network].ID, NetworkName: r.Network, EndpointID: r.ID, SandboxID: r.Sandbox,
		MAC: r.mac(), IPv4: r.IPv4, Ports: r.portMap(), Limits: r.Limits,
	}
	if r.IPv4.IsValid() {
		e.Gateway = n.gateway
	}
	return e
}

// Rename tells Inspect the new name of a container, if it is connected.
func (n *Networks) Rename(containerID, name string) error {
	n.mu.Lock()
	r, ok := n.endpoints[containerID]
	if !ok {
		n.mu.Unlock()
		return nil
	}
	renamed := *r
	renamed.Name = name
	n.endpoints[containerID] = &renamed
	n.mu.Unlock()
	return renamed.put(n.c.Store, containerID)
}

// Stats returns the counters of a container's interfaces by their names inside
// (eth0); none on host and none. They are read from the host's end of the
// pair, where each packet counts in the other direction.
// Errors: NotFound for a container that is not connected.
func (n *Networks) Stats(containerID string) (map[string]Counters, error) {
	r, ok := n.record(containerID)
	if !ok {
		return nil, errdefs.NotFoundf("container %s is not connected", containerID)
	}
	out := map[string]Counters{}
	if r.Link == "" {
		return out, nil
	}
	l, err := n.rt.Link(0, r.Link)
	if errors.Is(err, unix.ENODEV) { // the container has just ended
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	c := counters(l.Stats)
	c.subtract(r.Noise)
	out[inside] = c
	return out, nil
}

// counters turns round those of the host's end.
func counters(s netlink.Stats) Counters {
	return Counters{
		RxBytes: s.TxBytes, RxPackets: s.TxPackets, RxErrors: s.TxErrors, RxDropped: s.TxDropped,
		TxBytes: s.RxBytes, TxPackets: s.RxPackets, TxErrors: s.RxErrors, TxDropped: s.RxDropped,
	}
}

// subtract takes away what came in before.
func (c *Counters) subtract(noise Counters) {
	c.RxBytes -= min(c.RxBytes, noise.RxBytes)
	c.RxPackets -= min(c.RxPackets, noise.RxPackets)
	c.RxErrors -= min(c.RxErrors, noise.RxErrors)
	c.RxDropped -= min(c.RxDropped, noise.RxDropped)
}

// Containers returns the ids of the connected containers, in order.
func (n *Networks) Containers() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]string, 0, len(n.endpoints))
	for id := range n.endpoints {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}
