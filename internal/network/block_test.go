package network

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/network"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
)

// pooled is the configuration of one subnet, of which containers get a part.
func pooled(subnet, part, gateway string, aux ...string) network.IPAMConfig {
	c := network.IPAMConfig{Subnet: netip.MustParsePrefix(subnet), IPRange: netip.MustParsePrefix(part), Gateway: netip.MustParseAddr(gateway)}
	for i, a := range aux {
		if c.AuxAddress == nil {
			c.AuxAddress = map[string]netip.Addr{}
		}
		c.AuxAddress[fmt.Sprint(i)] = netip.MustParseAddr(a)
	}
	return c
}

// three connects a container after the other, and checks which addresses and
// gateways they get.
func (b *bench) three(name string, want ...string) (out []*box) {
	b.t.Helper()
	for i, w := range want {
		x := b.connect(Request{Name: fmt.Sprint(name, i), Network: name})
		if got := fmt.Sprintf("%s by %s", x.IPv4, x.Gateway); got != w {
			b.t.Errorf("container %d of %s: %s, want %s", i, name, got, w)
		}
		out = append(out, x)
	}
	return out
}

// TestSubnets gives networks two subnets of a family: addresses come from the
// first one until it is full, each with its own gateway, range and what it keeps.
func TestSubnets(t *testing.T) {
	b := newBench(t, func(c *Config) { c.PoolSize = -1 })
	b.six()
	on := true
	err := in(b.other, func() error { // the second router
		c := dial(t)
		defer c.Close()
		eth0, err := c.LinkState(0, "eth0")
		if err != nil {
			return err
		}
		var r netlink.Request
		r.AddAddr(eth0.Index, netip.MustParsePrefix("10.98.0.1/24"))
		return c.Do(&r)
	})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, b.other, "tcp", ":80")

	b.create(network.CreateRequest{Name: "lan", Driver: driverMacvlan, EnableIPv6: &on, Options: map[string]string{optParent: "uplink"}, IPAM: &network.IPAM{Config: []network.IPAMConfig{
		pooled("10.99.0.0/24", "10.99.0.8/30", outside.String(), "10.99.0.8", "10.99.0.9"),
		pooled("10.98.0.0/24", "10.98.0.64/26", "10.98.0.1", "10.98.0.64"),
		pooled("fd61::/64", "fd61::8/126", "fd61::1"),
		pooled("fd62::/64", "fd62::8/126", "fd62::1"),
	}}})
	lan := b.three("lan", "10.99.0.10/24 by 10.99.0.2", "10.99.0.11/24 by 10.99.0.2", "10.98.0.65/24 by 10.98.0.1")
	answers(t, "by the first gateway", lan[0].NetNS, "tcp", "10.98.0.1:80", "10.99.0.10")
	answers(t, "by the second gateway", lan[2].NetNS, "tcp", outside.String()+":80", "10.98.0.65")
	second := b.connect(Request{Name: "six", Network: "lan", IPv6: netip.MustParseAddr("fd62::9")})
	if second.IPv6.String() != "fd62::9/64" || second.Gateway6.String() != "fd62::1" || lan[0].IPv6.String() != "fd61::8/64" {
		t.Errorf("%s by %s, %s", second.IPv6, second.Gateway6, lan[0].IPv6)
	}

	b.create(network.CreateRequest{Name: "wide", Driver: driverOverlay, Options: map[string]string{"peers": machine.String() + "," + outside.String()}, IPAM: &network.IPAM{Config: []network.IPAMConfig{
		pooled("10.97.0.0/24", "10.97.0.8/30", "10.97.0.10", "10.97.0.8"), pooled("10.96.0.0/24", "10.96.0.64/26", "10.96.0.127", "10.96.0.64"),
	}}})
	wide := b.three("wide", "10.97.0.9/24 by 10.97.0.10", "10.97.0.11/24 by 10.97.0.10", "10.96.0.65/24 by 10.96.0.127")
	serve(t, wide[2].NetNS, "tcp", ":80")
	answers(t, "the other subnet of a network", wide[0].NetNS, "tcp", "10.96.0.65:80", "10.97.0.9")
	answers(t, "the outside", wide[2].NetNS, "tcp", outside.String()+":80", machine.String())

	// What is in use stays so, and what is given back can be had again.
	b.crash()
	b.start()
	live := map[string]bool{}
	for _, x := range append(lan[1:], wide...) {
		live[x.id] = true
	}
	if err := b.n.Restore(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	b.three("lan", "10.99.0.10/24 by 10.99.0.2", "10.98.0.66/24 by 10.98.0.1")
	_, err = b.n.Connect(t.Context(), Request{ContainerID: "x", Network: "lan", IPv4: lan[2].IPv4.Addr()})
	if errdefs.KindOf(err) != errdefs.Forbidden {
		t.Errorf("an address in use: %v", err)
	}
	_, err = b.n.Connect(t.Context(), Request{ContainerID: "x", Network: "lan", IPv4: netip.MustParseAddr("10.95.0.1")})
	if errdefs.KindOf(err) != errdefs.Invalid {
		t.Errorf("an address of no subnet: %v", err)
	}
	_, err = b.n.Create(t.Context(), network.CreateRequest{Name: "twice", Driver: driverMacvlan, IPAM: subnet("10.94.0.0/16", "10.94.7.0/24")})
	if errdefs.KindOf(err) != errdefs.Forbidden || !strings.Contains(err.Error(), "Pool overlaps") {
		t.Errorf("subnets that overlap: %v", err)
	}
	var subnets []string
	in, err := b.n.Inspect("wide")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range in.IPAM.Config {
		subnets = append(subnets, c.Subnet.String())
	}
	if got := fmt.Sprint(subnets); got != "[10.97.0.0/24 10.96.0.0/24]" {
		t.Errorf("inspect shows %s", got)
	}
}
