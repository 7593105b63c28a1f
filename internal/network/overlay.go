package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/linux/netlink"
	"lade/internal/linux/nft"
	"lade/internal/netrate"
	"lade/internal/network/overlay"
)

// driverOverlay is the driver of networks that are on several hosts.
const driverOverlay = "overlay"

// How long a name server may take, and how often one is asked for the peers.
const (
	lookupPatience = 5 * time.Second
	lookupEvery    = 10 * time.Second
)

// across is what the bridge of an overlay network has more than others. A nil
// one is of a network on this host only: its methods do nothing.
type across struct {
	overlay.Config
	device string
	slices int          // see overlay.Options
	given  []netip.Addr // the same

	changing sync.Mutex   // one change of the device at a time
	secure   func() error // lets the kernel encrypt; nil: it need not

	mu    sync.Mutex
	hosts []netip.Addr // the other ones, as they were found last; nil: not yet
	all   []netip.Addr // with this one

	cancel context.CancelFunc // of the goroutine that looks for the peers
	wg     sync.WaitGroup
}

// seat is what this host finds out before it makes an overlay network.
type seat struct {
	overlay.Options
	hosts []netip.Addr // all of them
	local netip.Addr   // this one
	mtu   int          // of the link to the others
}

// findSeat reads the options of an overlay network and looks for its hosts.
// Errors: Invalid.
func (n *Networks) findSeat(ctx context.Context, q network.CreateRequest) (*seat, error) {
	o, err := overlay.Parse(q.Name, q.Options)
	if err != nil {
		return nil, err
	}
	s := &seat{Options: o}
	ctx, cancel := context.WithTimeout(ctx, lookupPatience)
	defer cancel()
	if s.hosts, err = overlay.Resolve(ctx, o.Peers, n.c.lookup()); err != nil {
		return nil, err
	}
	var own []netip.Addr
	links := map[netip.Addr]int{}
	for _, list := range []func() ([]netlink.Addr, error){n.rt.Addrs, n.rt.Addrs6} {
		addrs, err := list()
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			own = append(own, a.Prefix.Addr())
			links[a.Prefix.Addr()] = a.Index
		}
	}
	if s.local, err = o.FindLocal(s.hosts, own); err != nil {
		return nil, err
	}
	if o.Encrypted {
		if _, err := overlay.ReadKey(o.Key); err != nil {
			return nil, err
		}
	}
	l, err := n.rt.LinkState(links[s.local], "")
	s.mtu = l.MTU
	return s, err
}

// lookup asks the host's resolver.
func (c Config) lookup() overlay.Lookup {
	if c.Lookup != nil {
		return c.Lookup
	}
	return func(ctx context.Context, host string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}
}

// take gives a network this host's place in it: the part of each subnet that is
// its own, and there an address for the bridge. Errors: Invalid, Conflict.
func (n *Networks) take(s *seat, u *userNetwork) error {
	c := overlay.Config{
		Peers: s.Peers, VNI: s.VNI, Port: s.Port, Local: s.local, MTU: overlay.MTU(s.mtu, s.local, s.Encrypted),
		Encrypted: s.Encrypted, Key: s.Key,
	}
	if v, ok := u.Options[optMTU]; ok {
		var err error
		if c.MTU, err = strconv.Atoi(v); err != nil || c.MTU < 68 || c.MTU > 65535 {
			return errdefs.Invalidf("invalid value for driver-opt %q: %q: not between 68 and 65535", optMTU, v)
		}
	}
	for i := range u.Pools {
		if err := s.part(&u.Pools[i]); err != nil {
			return err
		}
	}
	if err := s.checkBridge(u.Pools); err != nil {
		return err
	}
	for _, b := range n.allBridges() {
		o := b.across
		switch {
		case o == nil || o.Port != c.Port:
		case o.VNI == c.VNI:
			return errdefs.Conflictf("VNI %d is that of network %s: give the network another one with --opt vni=", c.VNI, b.network)
		case o.Encrypted != c.Encrypted || o.Key != c.Key:
			return errdefs.Conflictf("UDP port %d is that of network %s, which is not encrypted with the same key: give the network another one with --opt port=", c.Port, b.network)
		}
	}
	u.Overlay = &c
	return nil
}

// checkBridge checks the addresses of bridges that were given. That by which others
// ask this host is of its first subnet, of IPv4 if there is one.
func (s *seat) checkBridge(pools []network.IPAMConfig) error {
	var here netip.Addr
	var subnets []netip.Prefix
	for _, c := range pools {
		subnets = append(subnets, c.Subnet)
		if !here.IsValid() || here.Is6() && c.Gateway.Is4() {
			here = c.Gateway
		}
	}
	return s.CheckBridge(here, subnets)
}

// part completes the addresses of one subnet. What one host gives out no other
// one does.
func (s *seat) part(c *network.IPAMConfig) error {
	if !c.IPRange.IsValid() {
		number, parts, err := s.Place(s.hosts, s.local)
		if err != nil {
			return err
		}
		if c.IPRange, err = overlay.Slice(c.Subnet, number, parts); err != nil {
			return err
		}
	}
	if !c.Gateway.IsValid() {
		c.Gateway = overlay.First(c.Subnet, c.IPRange)
		for _, a := range c.AuxAddress {
			if a == c.Gateway {
				return errdefs.Invalidf("auxiliary address %s: the bridge of this host has it; say --gateway", a)
			}
		}
	}
	if !c.IPRange.Contains(c.Gateway) {
		return errdefs.Invalidf("invalid gateway %s: on an overlay network it is this host's, and this host has the addresses of %s", c.Gateway, c.IPRange)
	}
	return nil
}

// ownAddress refuses an address that another host may give out.
func (b *bridge) ownAddress(r Request) error {
	if b.across == nil {
		return nil
	}
	for _, ip := range []netip.Addr{r.IPv4, r.IPv6} {
		if s := b.side(ip.Is6()).of(ip); s != nil && !s.part.Contains(ip) {
			return errdefs.Invalidf("address %s of network %s is another host's to give: this host has %s", ip, b.network, s.part)
		}
	}
	return nil
}

// acrossOption reports whether an overlay network has an option.
func acrossOption(name string) bool {
	switch name {
	case optMTU, optMasq, optBind, optIPv4, optIPv6, netrate.InName, netrate.OutName, netrate.BurstName:
		return true
	}
	return overlay.Known(name)
}

// port returns the UDP port of the network's datagrams, or 0.
func (a *across) port() uint16 {
	if a == nil {
		return 0
	}
	return a.Port
}

// join makes the device a port of the bridge with an index, with the peers that
// are known.
func (a *across) join(rt *netlink.Conn, bridge int) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	if a.secure != nil {
		if err := a.secure(); err != nil {
			return err
		}
	}
	if err := a.Join(rt, a.device, bridge); err != nil {
		return err
	}
	hosts, known := a.peers()
	if !known { // those that the kernel has stay
		return nil
	}
	_, err := overlay.Meet(rt, a.device, hosts)
	return err
}

// has reports whether a link of the host is the device.
func (a *across) has(name string) bool { return a != nil && a.device == name }

// peers returns the other hosts, as they were found last, if they were.
func (a *across) peers() (hosts []netip.Addr, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hosts, a.hosts != nil
}

// know keeps which hosts there are.
func (a *across) know(hosts []netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hosts, a.all = append([]netip.Addr{}, overlay.Others(hosts, a.Local)...), hosts
}

// Across is where an overlay network's hosts are on the network itself.
type Across struct {
	Here    netip.Addr   // this host
	Peers   []netip.Addr // the others, as far as they are known; see overlay.Options.Bridges
	Subnets []netip.Prefix
}

// Across returns where other hosts that have a network can be asked for names;
// nil for a network on this host only, or one that is not there.
func (n *Networks) Across(name string) *Across {
	b := n.bridge(name)
	if b == nil || b.across == nil {
		return nil
	}
	b.across.mu.Lock()
	all := b.across.all
	b.across.mu.Unlock()
	out := &Across{Subnets: append(b.v4.subnets(), b.v6.subnets()...)}
	for _, six := range families() {
		if s := b.side(six); s.address.IsValid() && !out.Here.IsValid() {
			o := overlay.Options{Peers: b.across.Peers, Slices: b.across.slices, Given: b.across.given}
			out.Here = s.address.Addr()
			out.Peers = o.Bridges(all, b.across.Local, s.subnet, out.Here)
		}
	}
	return out
}

// meet makes these hosts the peers. It reports whether anything changed.
func (a *across) meet(rt *netlink.Conn, hosts []netip.Addr) (bool, error) {
	a.know(hosts)
	a.changing.Lock()
	defer a.changing.Unlock()
	if a.secure != nil {
		if err := a.secure(); err != nil {
			return false, err
		}
	}
	known, _ := a.peers()
	changed, err := overlay.Meet(rt, a.device, known)
	if errors.Is(err, unix.ENODEV) { // not made yet, or removed by somebody
		return false, nil
	}
	return changed, err
}

// leave removes the device and stops looking for peers.
func (a *across) leave(rt *netlink.Conn) error {
	if a == nil {
		return nil
	}
	a.stay()
	a.changing.Lock()
	defer a.changing.Unlock()
	return overlay.Remove(rt, a.device)
}

// withdraw takes this host out of a network that is in the books no more.
func (n *Networks) withdraw(a *across) error {
	if err := a.leave(n.rt); err != nil {
		return err
	}
	failpoint.Hit("network.withdrawn")
	return n.ipsec.unsecure(a, n.sharing(a))
}

// stay stops looking for peers; the device goes on.
func (a *across) stay() {
	if a != nil && a.cancel != nil {
		a.cancel()
		a.wg.Wait()
	}
}

// follow finds the peers of an overlay network now and, when they have names,
// from time to time until stay: hosts come and go. What the kernel has holds
// until an answer comes, so that neither a start nor packets wait for a name
// server.
func (n *Networks) follow(b *bridge) {
	a := b.across
	if a == nil {
		return
	}
	if a.Encrypted {
		a.secure = func() error { return n.ipsec.secure(a, n.sharing(a)) }
	}
	if !overlay.Named(a.Peers) {
		if hosts, err := overlay.Resolve(context.Background(), a.Peers, nil); err == nil {
			a.know(hosts)
		}
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	log := n.log.With("network", b.network)
	a.wg.Go(func() {
		tick := time.NewTicker(cmp.Or(n.c.LookupEvery, lookupEvery))
		defer tick.Stop()
		for told := false; ; {
			before, _ := a.peers()
			told = n.look(ctx, a, log, told)
			if now, _ := a.peers(); !slices.Equal(before, now) {
				n.tell(b.network)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
}

// look asks for the peers once. told says whether the log has heard of a failure
// that lasts; look returns whether it has now.
func (n *Networks) look(ctx context.Context, a *across, log *slog.Logger, told bool) bool {
	asking, cancel := context.WithTimeout(ctx, lookupPatience)
	defer cancel()
	hosts, err := overlay.Resolve(asking, a.Peers, n.c.lookup())
	changed := false
	if err == nil {
		changed, err = a.meet(n.rt, hosts)
	}
	switch {
	case err != nil && ctx.Err() == nil && !told:
		log.Warn("the peers of an overlay network stay what they were", "error", err)
	case changed:
		log.Info("the peers of an overlay network have changed", "hosts", fmt.Sprint(hosts))
	}
	return err != nil
}

// tunnels keeps containers from sending what would pass for a frame of an overlay
// network: to this host, and to others with this host's address.
func (w writer) tunnels(policies []policy) {
	var ports []uint16
	for _, p := range policies {
		if p.vxlan != 0 && !slices.Contains(ports, p.vxlan) {
			ports = append(ports, p.vxlan)
		}
	}
	slices.Sort(ports)
	for _, port := range ports {
		to := []nft.Expr{nft.Meta(unix.NFT_META_L4PROTO, 0), nft.Equal(0, []byte{unix.IPPROTO_UDP}), nft.DstPort(0), nft.Equal(0, nft.Port(port))}
		for _, p := range policies {
			w.rule("raw", iif(p.link, true), to, []nft.Expr{nft.DstType(0), nft.Equal(0, nft.Host(unix.RTN_LOCAL)), nft.Drop()})
			w.rule("forward", iif(p.link, true), oif(p.link, false), to, one(nft.Drop()))
		}
	}
}
