package network

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/network"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
)

// TestWithoutRules starts an engine that may make no rules in the place of one
// that did: its tables go, and the gate serves what is published.
func TestWithoutRules(t *testing.T) {
	b := newBench(t, nil)
	b.crash()
	b.c.NoRules4, b.c.NoRules6 = true, true
	b.start()
	for _, name := range b.inventory() {
		if strings.Contains(name, tablePrefix) {
			t.Errorf("there is a %s", name)
		}
	}
	b.create(network.CreateRequest{Name: "a", IPAM: subnet("10.61.0.0/24")})
	one := b.connect(Request{Name: "one", Ports: []Publish{
		{Proto: "tcp", Port: 80, HostPort: 8080}, {Proto: "udp", Port: 53, HostPort: 8053}, {Proto: "tcp", Port: 80, HostPort: 8081, Policy: PolicyGate},
	}})
	two := b.connect(Request{Name: "two", Network: "a"})
	serve(t, one.NetNS, "tcp", ":80")
	serve(t, one.NetNS, "udp", ":53")
	serve(t, b.other, "tcp", ":80")
	gw := b.gateway().String()
	for _, port := range []string{":8080", ":8081"} {
		reaches(t, "outside to published", b.other, "tcp", machine.String()+port, gw)
		reaches(t, "localhost", nil, "tcp", "127.0.0.1"+port, gw)
	}
	reaches(t, "outside to published, UDP", b.other, "udp", machine.String()+":8053", gw)
	reaches(t, "nothing is translated", one.NetNS, "tcp", outside.String()+":80", one.IPv4.Addr().String())
	reaches(t, "networks are not kept apart", two.NetNS, "tcp", one.IPv4.Addr().String()+":80", two.IPv4.Addr().String())
	for _, p := range one.Published {
		if p.Policy != PolicyGate {
			t.Errorf("published %+v", p)
		}
	}
	_, err := b.n.Connect(t.Context(), Request{ContainerID: "x", Name: "x", Ports: []Publish{{Proto: "sctp", Port: 80, HostPort: 8080}}})
	if errdefs.KindOf(err) != errdefs.NotImplemented || !strings.Contains(err.Error(), "only tcp and udp can be published") {
		t.Errorf("SCTP: %v", err)
	}

	// What keeps containers from the host's 127.0.0.1 is gone, so no packet for it
	// may come by the bridge.
	serve(t, nil, "tcp", "127.0.0.1:8090")
	err = netns.Do(one.NetNS, func() error {
		c := dial(t)
		defer c.Close()
		if err := netns.Sysctl("net/ipv4/conf/eth0/route_localnet", "1"); err != nil {
			return err
		}
		eth0, err := c.LinkState(0, "eth0")
		if err != nil {
			return err
		}
		var r netlink.Request
		r.DelAddr(1, netip.MustParsePrefix("127.0.0.1/8"))
		r.AddRoute(eth0.Index, netip.MustParsePrefix("127.0.0.1/32"), b.gateway())
		return c.Do(&r)
	})
	if err != nil {
		t.Fatal(err)
	}
	silent(t, "the host's own services", one.NetNS, "tcp", "127.0.0.1:8090")
}

// TestWithoutProxy has the gate serve only what is published by its policy.
func TestWithoutProxy(t *testing.T) {
	b := newBench(t, func(c *Config) { c.NoRules4, c.NoProxy = true, true })
	one := b.connect(Request{Name: "one", Ports: []Publish{
		{Proto: "tcp", Port: 80, HostPort: 8080}, {Proto: "tcp", Port: 80, HostPort: 8081, Policy: PolicyGate},
		{Proto: "tcp", Port: 80, HostPort: 8082, HostIP: netip.IPv6Loopback()},
	}})
	serve(t, one.NetNS, "tcp", ":80")
	reaches(t, "the gate", b.other, "tcp", machine.String()+":8081", b.gateway().String())
	silent(t, "without rules", b.other, "tcp", machine.String()+":8080")
	silent(t, "from IPv6 to IPv4", nil, "tcp6", "[::1]:8082")
	if got := fmt.Sprint(one.Ports); strings.Contains(got, "8082") || !strings.Contains(got, "8080") {
		t.Errorf("ports %s", got)
	}
	_, err := b.n.Connect(t.Context(), Request{ContainerID: "x", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8080}}})
	if err == nil || !strings.Contains(err.Error(), "port is already allocated") {
		t.Errorf("the port is reserved all the same: %v", err)
	}

	b.crash()
	b.c.NoRules4 = false
	b.start()
	reaches(t, "with rules", b.other, "tcp", machine.String()+":8080", outside.String())
	reaches(t, "localhost", nil, "tcp", "127.0.0.1:8080", b.gateway().String())
}

// TestNoForwarding leaves the host's forwarding as it is, which is off.
func TestNoForwarding(t *testing.T) {
	const forwarding = "net/ipv4/ip_forward"
	b := newBench(t, nil)
	b.crash()
	if err := netns.Sysctl(forwarding, "0"); err != nil {
		t.Fatal(err)
	}
	b.c.IPForward = false
	b.start()
	t.Cleanup(func() { netns.Sysctl(forwarding, "1") })
	one := b.connect(Request{Name: "one", Ports: []Publish{
		{Proto: "tcp", Port: 80, HostPort: 8080}, {Proto: "tcp", Port: 80, HostPort: 8081, Policy: PolicyGate},
	}})
	serve(t, one.NetNS, "tcp", ":80")
	serve(t, b.other, "tcp", ":80")
	silent(t, "container to outside", one.NetNS, "tcp", outside.String()+":80")
	silent(t, "outside to what is translated", b.other, "tcp", machine.String()+":8080")
	reaches(t, "outside to the gate", b.other, "tcp", machine.String()+":8081", outside.String())
	reaches(t, "this host", nil, "tcp", "127.0.0.1:8080", b.gateway().String())
}
