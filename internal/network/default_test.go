package network

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/network"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
	"lade/internal/store"
)

// outside6 and machine6 are addresses on the link to the other host.
var (
	machine6 = netip.MustParseAddr("fd99::1")
	outside6 = netip.MustParseAddr("fd99::2")
)

// six gives the link to the other host IPv6.
func (b *bench) six() {
	b.t.Helper()
	for ip, ns := range map[netip.Addr]*os.File{machine6: nil, outside6: b.other} {
		name := "eth0"
		if ns == nil {
			name = "uplink"
		}
		err := in(ns, func() error {
			conn := dial(b.t)
			defer conn.Close()
			l, err := conn.LinkState(0, name)
			if err != nil {
				return err
			}
			var r netlink.Request
			r.AddAddr(l.Index, netip.PrefixFrom(ip, 64))
			if ns != nil {
				r.AddDefaultRoute(l.Index, machine6)
			}
			if err := conn.Do(&r); err != nil {
				return err
			}
			return settle6(conn, ip)
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

// TestDefault6 gives the default bridge IPv6, which stays what it was.
func TestDefault6(t *testing.T) {
	b := newBench(t, func(c *Config) { c.IPv6 = true })
	b.six()
	serve(t, b.other, "tcp6", "[::]:80")
	subnet := b.n.def.v6.subnet
	if !subnet.IsValid() || subnet.Bits() != 64 || subnet.Addr().As16()[0] != 0xfd {
		t.Fatalf("subnet %s", subnet)
	}
	if got := b.n.HostGateway(); len(got) != 2 || got[0] != b.gateway() || got[1] != subnet.Addr().Next() {
		t.Errorf("host-gateway: %v", got)
	}
	one := b.connect(Request{Name: "one", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8080}}})
	two := b.connect(Request{Name: "two"})
	serve(t, one.NetNS, "tcp", ":80")
	serve(t, one.NetNS, "tcp6", "[::]:80")
	if !subnet.Contains(one.IPv6.Addr()) || one.Gateway6 != subnet.Addr().Next() {
		t.Errorf("endpoint %+v", one.Endpoint)
	}
	own6 := "[" + one.IPv6.Addr().String() + "]:80"
	answers(t, "a neighbour", two.NetNS, "tcp6", own6, two.IPv6.Addr().String())
	answers(t, "outside, translated", one.NetNS, "tcp6", "["+outside6.String()+"]:80", machine6.String())
	answers(t, "a published port", b.other, "tcp6", "["+machine6.String()+"]:8080", outside6.String())
	answers(t, "IPv4", b.other, "tcp", machine.String()+":8080", outside.String())
	silent(t, "what is not published", b.other, "tcp6", own6)
	d, err := b.n.Inspect(network.NetworkBridge)
	if err != nil || !d.EnableIPv6 || len(d.IPAM.Config) != 2 || d.IPAM.Config[1].Subnet != subnet {
		t.Errorf("inspect: %+v, %v", d, err)
	}

	b.crash()
	b.start()
	if got := b.n.def.v6.subnet; got != subnet {
		t.Errorf("after a restart %s, was %s", got, subnet)
	}
	if err := b.n.Restore(t.Context(), map[string]bool{one.id: true, two.id: true}); err != nil {
		t.Fatal(err)
	}
	answers(t, "a published port after a restart", b.other, "tcp6", "["+machine6.String()+"]:8080", outside6.String())

	// Another subnet, of which containers get a part; then no rules.
	for _, x := range []*box{one, two} {
		x.release()
	}
	b.crash()
	b.c.BIP6, b.c.FixedCIDR6 = netip.MustParsePrefix("fd55::5/64"), netip.MustParsePrefix("fd55::100/120")
	b.start()
	// The namespaces of those before, which our servers keep, have the hardware
	// addresses of the first IPv4 addresses.
	free := one.IPv4.Addr()
	for range 7 {
		free = free.Next()
	}
	three := b.connect(Request{Name: "three", IPv4: free, Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8080}}})
	serve(t, three.NetNS, "tcp6", "[::]:80")
	if !b.c.FixedCIDR6.Contains(three.IPv6.Addr()) || three.Gateway6 != b.c.BIP6.Addr() {
		t.Errorf("endpoint %+v", three.Endpoint)
	}
	answers(t, "a published port with bip6", b.other, "tcp6", "["+machine6.String()+"]:8080", outside6.String())
	addrs, err := b.n.rt.Addrs6()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if subnet.Contains(a.Prefix.Addr()) {
			t.Errorf("the bridge has its old address %s still", a.Prefix)
		}
	}
	three.release()
	b.crash()
	b.c.NoRules6 = true
	b.start()
	four := b.connect(Request{Name: "four", IPv4: free.Next(), Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8080}}})
	serve(t, four.NetNS, "tcp6", "[::]:80")
	answers(t, "a published port without rules", b.other, "tcp6", "["+machine6.String()+"]:8080", four.Gateway6.String())
	answers(t, "a container without rules", b.other, "tcp6", "["+four.IPv6.Addr().String()+"]:80", outside6.String())
}

// TestFixedCIDR starts engines of which only the part of the default bridge's subnet
// is said that containers get.
func TestFixedCIDR(t *testing.T) {
	b := newBench(t, func(c *Config) { c.FixedCIDR = netip.MustParsePrefix("10.63.50.0/24") })
	serve(t, b.other, "tcp", ":80")
	for _, c := range []struct{ what, part, bip string }{
		{"at first", "10.63.50.0/24", "10.63.50.1/24"},
		{"a part of what the bridge has", "10.63.50.128/25", "10.63.50.1/24"},
		{"somewhere else", "10.64.0.0/25", "10.64.0.1/25"},
		{"more than the bridge has", "10.64.0.0/24", "10.64.0.1/24"},
	} {
		b.crash()
		part, bip := netip.MustParsePrefix(c.part), netip.MustParsePrefix(c.bip)
		b.c.FixedCIDR = part
		b.start()
		got := b.connect(Request{Name: "one"})
		if !part.Contains(got.IPv4.Addr()) || got.IPv4.Bits() != bip.Bits() || got.Gateway != bip.Addr() {
			t.Errorf("%s: endpoint %+v", c.what, got.Endpoint)
		}
		answers(t, c.what, got.NetNS, "tcp", outside.String()+":80", machine.String())
		got.release()
	}
}

// TestDefaultRefused asks for addresses that the default bridge cannot have.
func TestDefaultRefused(t *testing.T) {
	b := newBench(t, func(c *Config) { c.PoolSize = -1 })
	b.six()
	six := true
	b.create(network.CreateRequest{Name: "a", EnableIPv6: &six, IPAM: subnet("10.61.0.0/24", "fd61::/64")})
	b.crash()
	before := b.inventory()
	for _, c := range []struct {
		change func(*Config)
		kind   errdefs.Kind
		text   string
	}{
		{func(c *Config) { c.BIP = netip.MustParsePrefix("10.61.0.9/16") }, errdefs.Conflict, "invalid bip 10.61.0.9/16: it overlaps the subnet 10.61.0.0/24 of a network"},
		{func(c *Config) { c.BIP = netip.MustParsePrefix("10.60.0.0/24") }, errdefs.Invalid, "want the address of a host"},
		{func(c *Config) { c.FixedCIDR = netip.MustParsePrefix("10.61.0.128/25") }, errdefs.Conflict, "invalid fixed-cidr 10.61.0.129/25: it overlaps the subnet 10.61.0.0/24 of a network"},
		{func(c *Config) { c.FixedCIDR = netip.MustParsePrefix("10.62.0.0/31") }, errdefs.Invalid, "want an IPv4 subnet with two hosts at least"},
		{func(c *Config) { c.IPv6, c.BIP6 = true, netip.MustParsePrefix("fd61::9/64") }, errdefs.Conflict, "invalid bip6 fd61::9/64: it overlaps"},
		{func(c *Config) { c.IPv6, c.FixedCIDR6 = true, netip.MustParsePrefix("fd61::/64") }, errdefs.Conflict, "invalid fixed-cidr-v6 fd61::1/64: it overlaps"},
		{func(c *Config) { c.IPv6, c.BIP6 = true, netip.MustParsePrefix("fe80::9/64") }, errdefs.Invalid, "want the address of a host in an IPv6 subnet"},
		{func(c *Config) {
			c.IPv6, c.BIP6, c.FixedCIDR6 = true, netip.MustParsePrefix("fd62::9/64"), netip.MustParsePrefix("fd63::/80")
		}, errdefs.Invalid, "fd63::/80"},
		{func(c *Config) {
			c.IPv6, c.BIP6, c.Gateway6 = true, netip.MustParsePrefix("fd62::9/64"), netip.MustParseAddr("fd63::1")
		}, errdefs.Invalid, "invalid default-gateway-v6 fd63::1"},
	} {
		s, err := store.Open(b.dir, b.c.Logger)
		if err != nil {
			t.Fatal(err)
		}
		bad := b.c
		bad.Store = s
		c.change(&bad)
		n, err := New(t.Context(), bad)
		if errdefs.KindOf(err) != c.kind || err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v, want %s", err, c.text)
		}
		if n != nil {
			n.Close()
		}
		s.Close()
	}
	if now := b.inventory(); strings.Join(now, " ") != strings.Join(before, " ") {
		t.Errorf("before %v, now %v", before, now)
	}
	b.start()
}
