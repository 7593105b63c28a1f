package network

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/netrate"
	"lade/internal/network/etc"
	"lade/internal/network/ipam"
	"lade/internal/trace"
)

// defaultMTU is Docker's.
const defaultMTU = 1500

// bridge is a network of containers: one link, addresses, rules. One of the
// drivers macvlan and ipvlan has children of a link that is not its own instead,
// and no rules.
type bridge struct {
	network  string    // name of the network
	id       string    // of the network
	link     string    // name of the interface; "" with children
	foreign  *foreign  // nil: we make the interfaces of containers
	children *children // nil: containers have pairs of links, with an end in the bridge
	v4, v6   side
	mtu      int // 0: see makeBridge
	icc      bool
	internal bool       // no way out
	bind     netip.Addr // where ports are published that name no address
	policy   string     // by which; "": as the engine has it
	limits   netrate.Limits
	bare4    bool         // the host has no IPv4 address in it: somebody else is the gateway
	trusted  []string     // links of the host from where every port is reachable
	prefix   string       // of the names of containers' interfaces; "": eth
	was      netip.Prefix // an address that it had and is to lose
	was6     netip.Prefix // likewise
	across   *across      // nil: on this host only
	plain    bool         // no rule guards it: IPv4 has no table
	granted  *granted     // nil: addresses are of our own books

	repairing sync.Mutex // one repair at a time
	starting  sync.Mutex // orders who makes the pool
	pool      *pool      // set once, under books.mu; nil before the first use

	// books.mu guards these, and the allocators.
	users int // endpoints, also those that are being made
}

// side is what a network is in one family.
type side struct {
	block           // the first subnet
	further []block // of a network with several
	masq    bool
	source  netip.Addr // what leaves the host gets this address; zero: that of the link it leaves by
	mode    string
}

// allocator gives out addresses: an ipam.Allocator or Sparse.
type allocator interface {
	Next() (netip.Addr, error)
	Take(netip.Addr) error
	Release(netip.Addr)
}

func (b *bridge) side(six bool) *side {
	if six {
		return &b.v6
	}
	return &b.v4
}

// hostLink returns the name of the bridge or of the parent.
func (b *bridge) hostLink() string {
	if b.children != nil {
		return b.children.parent
	}
	return b.link
}

// open sets up the books of addresses of a block whose subnet is set: those in
// taken are not given out.
func (s *block) open(within netip.Prefix, taken ...netip.Addr) (err error) {
	if s.pool != "" {
		return nil
	}
	if s.subnet.Addr().Is4() {
		s.addrs, err = ipam.New(s.subnet, within)
	} else {
		s.addrs, err = ipam.NewSparse(s.subnet, within)
	}
	for _, ip := range taken {
		if err != nil {
			break
		}
		if !ip.IsValid() {
			continue
		}
		if err = s.addrs.Take(ip); errors.Is(err, errdefs.Forbidden) { // named twice
			err = nil
		}
	}
	return err
}

// hardware returns the address that an interface with an IP address gets: 02:42
// and its last four bytes, as in Docker before version 28. A neighbour's entry
// for the address then stays true when another container gets it.
func hardware(ip netip.Addr) net.HardwareAddr {
	b := ip.AsSlice()
	return append(net.HardwareAddr{0x02, 0x42}, b[len(b)-4:]...)
}

// checkBridge refuses a name that the kernel would.
func checkBridge(name string) error {
	if name == "" || len(name) >= unix.IFNAMSIZ || strings.ContainsAny(name, "/ \t\n%:") || name == "." || name == ".." {
		return errdefs.Invalidf("invalid bridge name %q", name)
	}
	return nil
}

// choose returns the bridge's address: as configured, as it is, as it was, or
// from the first pool that collides with nothing: neither with others, the
// subnets of other networks, nor with what the host has. was is what is recorded
// of it.
func choose(rt *netlink.Conn, c Config, was networkRecord, others []netip.Prefix) (netip.Prefix, error) {
	bridge, err := rt.Link(0, c.Bridge)
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return netip.Prefix{}, err
	}
	if c.BIP.IsValid() {
		if !c.BIP.Addr().Is4() || c.BIP.Addr() == c.BIP.Masked().Addr() || c.BIP.Addr() == ipam.Last(c.BIP) {
			return c.BIP, errdefs.Invalidf("invalid bridge address %s: want the address of a host in an IPv4 subnet", c.BIP)
		}
		return c.BIP, unused("bip", c.BIP, others)
	}
	addrs, err := rt.Addrs()
	if err != nil {
		return netip.Prefix{}, err
	}
	var have []netip.Prefix
	for _, a := range addrs {
		if bridge.Index != 0 && a.Index == bridge.Index {
			have = append(have, a.Prefix)
		}
	}
	// A bridge that is not ours keeps its addresses.
	if c.FixedCIDR.IsValid() && (was.Made || len(have) == 0) {
		return around(c.FixedCIDR, append(have, was.BIP), others)
	}
	if len(have) > 0 {
		return have[0], nil
	}
	taken, err := hostPrefixes(rt, bridge.Index)
	if err != nil {
		return netip.Prefix{}, err
	}
	taken = append(taken, others...)
	if was.BIP.IsValid() && !slices.ContainsFunc(taken, was.BIP.Overlaps) {
		return was.BIP, nil
	}
	subnet, err := ipam.Choose(c.pools(), taken)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(subnet.Addr().Next(), subnet.Bits()), nil
}

// pools returns the IPv4 pools of the configuration.
func (c Config) pools() []ipam.Pool {
	own := slices.DeleteFunc(slices.Clone(c.Pools), func(p ipam.Pool) bool { return !p.Base.Addr().Is4() })
	if len(own) == 0 {
		return ipam.Defaults()
	}
	return own
}

// hostPrefixes returns what the host reaches already, by an address, a route or
// as a name server, except through one link.
func hostPrefixes(rt *netlink.Conn, except int) (taken []netip.Prefix, err error) {
	for _, list := range []func() ([]netlink.Addr, error){rt.Addrs, rt.Addrs6} {
		addrs, err := list()
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if a.Index != except {
				taken = append(taken, a.Prefix.Masked())
			}
		}
	}
	routes, err := rt.AllRoutes()
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		if r.Dst.Bits() > 0 && (except == 0 || r.Index != except) && !r.Dst.Addr().IsMulticast() {
			taken = append(taken, r.Dst)
		}
	}
	for _, s := range etc.Nameservers(etc.Host()) {
		taken = append(taken, netip.PrefixFrom(s, s.BitLen()))
	}
	return taken, nil
}

// make creates the link or corrects what differs, and returns it. mtu 0 means
// Docker's default for a new bridge, and its own for one that is there. An
// address that we gave it before (was) goes, if it is not the same; any other
// is the administrator's. Then it writes the parameters of the host that the
// bridge needs.
func (b *bridge) make(rt *netlink.Conn) (link netlink.Link, made bool, err error) {
	if b.children != nil {
		return b.children.make(rt)
	}
	if b.foreign != nil {
		return link, false, nil
	}
	link, made, err = b.link4(rt)
	if err != nil {
		return link, made, err
	}
	if b.v4.address.IsValid() {
		// Packets from 127.0.0.1 may leave by the bridge, translated; the chain
		// "raw" keeps such addresses from coming in, so without it they may not.
		may := "1"
		if b.plain {
			may = "0"
		}
		err = netns.Sysctl("net/ipv4/conf/"+b.link+"/route_localnet", may)
	}
	if b.v6.subnet.IsValid() && err == nil {
		err = b.link6(rt, link.Index)
	}
	if b.was6.IsValid() && b.was6 != b.v6.address && err == nil {
		var r netlink.Request
		r.DelAddr(link.Index, b.was6)
		if err = rt.Do(&r); errors.Is(err, unix.EADDRNOTAVAIL) {
			err = nil
		}
	}
	if b.mtu == 0 {
		b.mtu = link.MTU
	}
	if b.across != nil && err == nil {
		err = b.across.join(rt, link.Index)
	}
	return link, made, err
}

func (b *bridge) link4(rt *netlink.Conn) (link netlink.Link, made bool, err error) {
	var r netlink.Request
	link, err = rt.Link(0, b.link)
	switch {
	case errors.Is(err, unix.ENODEV):
		own := b.v4.subnet.Addr()
		if b.v4.address.IsValid() {
			own = b.v4.address.Addr()
		} else if b.v6.address.IsValid() {
			own = b.v6.address.Addr()
		}
		if !own.IsValid() {
			own = b.v6.subnet.Addr()
		}
		r.AddBridge(b.link, hardware(own), cmp.Or(b.mtu, defaultMTU))
		if err := trace.Begin(trace.Net, "create bridge", b.link).End(rt.Do(&r)); err != nil && !errors.Is(err, unix.EEXIST) {
			return link, false, fmt.Errorf("create bridge %s: %w", b.link, err)
		}
		made = true
		if link, err = rt.Link(0, b.link); err != nil {
			return link, made, err
		}
	case err != nil:
		return link, false, err
	case link.Kind != "bridge":
		return link, false, errdefs.Invalidf("existing interface %s is not a bridge", b.link)
	}
	r.Reset()
	if !link.Up {
		r.SetUp(link.Index, "")
	}
	if b.mtu != 0 && link.MTU != b.mtu {
		r.SetMTU(link.Index, b.mtu)
		link.MTU = b.mtu
	}
	addrs, err := rt.Addrs()
	if err != nil {
		return link, made, err
	}
	missing := b.v4.addresses()
	for _, a := range addrs {
		switch i := slices.Index(missing, a.Prefix); {
		case a.Index != link.Index:
		case i >= 0:
			missing = slices.Delete(missing, i, i+1)
		case a.Prefix == b.was && a.Prefix != b.v4.address:
			r.DelAddr(link.Index, a.Prefix)
		}
	}
	for _, p := range missing {
		r.AddAddr(link.Index, p)
	}
	if r.Messages() == 0 {
		return link, made, nil
	}
	if err := trace.Begin(trace.Net, "configure bridge", b.link).End(rt.Do(&r)); err != nil {
		return link, made, fmt.Errorf("configure bridge %s: %w", b.link, err)
	}
	return link, made, nil
}

// link6 gives the link its IPv6 address. Errors: Invalid where the host has no
// IPv6.
func (b *bridge) link6(rt *netlink.Conn, index int) error {
	if err := checkIPv6(); err != nil {
		return err
	}
	conf := "net/ipv6/conf/" + b.link + "/"
	err := errors.Join(
		netns.Sysctl(conf+"disable_ipv6", "0"),
		netns.Sysctl(conf+"accept_ra", "0"), // nobody in a container tells the host where to send
	)
	if err != nil {
		return err
	}
	// The bridge looks for the containers to which it forwards with a link-local
	// address of its own, and the one that the kernel gives it does not work for
	// up to two seconds, until nobody has claimed it.
	linkLocal := b.linkLocal6()
	for _, p := range append([]netip.Prefix{linkLocal}, b.v6.addresses()...) {
		var r netlink.Request
		r.AddAddr(index, p)
		err := rt.Do(&r)
		if err == nil && p != linkLocal {
			err = settle6(rt, p.Addr())
		}
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("configure bridge %s with %s: %w", b.link, p, err)
		}
	}
	return nil
}

// linkLocal6 is the link-local address of a bridge with IPv6: fe80::1, as in
// Docker, and one of its own where bridges of several hosts are one link.
func (b *bridge) linkLocal6() netip.Prefix {
	a := [16]byte{0: 0xfe, 1: 0x80, 15: 1}
	if b.across != nil && b.v6.address.IsValid() {
		own := b.v6.address.Addr().As16()
		copy(a[8:], own[8:])
	}
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

// checkIPv6 refuses IPv6 where the host has none.
func checkIPv6() error {
	v, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6")
	switch {
	case err != nil:
		return errdefs.Invalidf("IPv6 is not available: the kernel was booted without it (ipv6.disable=1)")
	case strings.TrimSpace(string(v)) != "0":
		return errdefs.Invalidf("IPv6 is disabled on this host (net.ipv6.conf.all.disable_ipv6=1)")
	}
	return nil
}

// forward lets the host route IPv4, and with six IPv6.
func forward(six bool) error {
	if !six {
		return trace.Begin(trace.Net, "sysctl", "net.ipv4.ip_forward").End(netns.Sysctl("net/ipv4/ip_forward", "1"))
	}
	const all = "net/ipv6/conf/all/forwarding"
	if v, err := os.ReadFile("/proc/sys/" + all); err == nil && strings.TrimSpace(string(v)) == "1" {
		return nil
	}
	// A router does not listen to other routers unless told so (accept_ra=2): the
	// host would lose the addresses and routes that it has from them
	// (Documentation/networking/ip-sysctl.rst, "accept_ra").
	files, err := filepath.Glob("/proc/sys/net/ipv6/conf/*/accept_ra")
	if err != nil {
		return err
	}
	for _, f := range files {
		if v, err := os.ReadFile(f); err == nil && strings.TrimSpace(string(v)) == "1" {
			err := os.WriteFile(f, []byte("2"), 0)
			if err != nil && !errors.Is(err, os.ErrNotExist) { // it has just been removed
				return err
			}
		}
	}
	return trace.Begin(trace.Net, "sysctl", "net.ipv6.conf.all.forwarding").End(netns.Sysctl(all, "1"))
}

// repair makes the bridge anew when somebody removed it, and puts all of our
// links back into it; or the parent, and has its containers visited.
func (n *Networks) repair(b *bridge) error {
	b.repairing.Lock()
	defer b.repairing.Unlock()
	link, made, err := b.make(n.rt)
	if err != nil {
		return err
	}
	if p := n.poolIn(b); p != nil {
		made = p.bridge.Swap(int64(link.Index)) != int64(link.Index)
	}
	if !made {
		return nil
	}
	n.log.Warn("somebody removed the link of a network; it is made anew", "network", b.network, "link", b.hostLink())
	if b.children == nil {
		return n.rejoin(b, link.Index)
	}
	for _, id := range n.Containers() {
		if c, _ := n.record(id); c != nil && c.in(b.network) != nil {
			n.ask(id, b.network)
		}
	}
	return nil
}

// poolIn returns the pool of a bridge if it has one by now.
func (n *Networks) poolIn(b *bridge) *pool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return b.pool
}

// rejoin makes the links of a bridge that was removed its ports again.
func (n *Networks) rejoin(b *bridge, index int) error {
	links, err := n.rt.Links()
	errs := []error{err}
	mine, p := n.linksOf(b), n.poolIn(b)
	for _, l := range links {
		if l.Master != 0 || !mine[l.Name] && (p == nil || !p.has(l.Name)) {
			continue
		}
		var r netlink.Request
		r.AddPort(l.Index, "", index)
		r.SetPort(l.Index, "", true, !b.icc)
		err := trace.Begin(trace.Net, "attach", l.Name).End(n.rt.Do(&r))
		if err == nil {
			_, err = settle(n.rt, l.Index, "")
		}
		if !errors.Is(err, unix.ENODEV) { // its container ended meanwhile
			errs = append(errs, err)
		}
	}
	if len(mine) > 0 {
		_, err = settle(n.rt, index, "")
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
