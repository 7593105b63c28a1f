package network

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/network"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
)

// TestBridgeOptions sends packets for what the options of a bridge say.
func TestBridgeOptions(t *testing.T) {
	b := newBench(t, nil)
	b.six()
	serve(t, b.other, "tcp", ":80")
	serve(t, b.other, "tcp6", "[::]:80")
	six := true

	// What leaves has addresses that were chosen, which are the host's.
	second, second6 := netip.MustParseAddr("10.99.0.5"), netip.MustParseAddr("fd99::5")
	uplink := b.link("uplink")
	var r netlink.Request
	r.AddAddr(uplink.Index, netip.PrefixFrom(second, 24))
	r.AddAddr(uplink.Index, netip.PrefixFrom(second6, 64))
	if err := b.n.rt.Do(&r); err != nil {
		t.Fatal(err)
	}
	b.create(network.CreateRequest{
		Name: "a", EnableIPv6: &six, IPAM: subnet("10.61.0.0/24", "fd61::/64"),
		Options: map[string]string{optHost4: second.String(), optHost6: second6.String(), optNames: "lan"},
	})
	one := b.connect(Request{Name: "one", Network: "a"})
	answers(t, "IPv4 leaves", one.NetNS, "tcp", outside.String()+":80", second.String())
	answers(t, "IPv6 leaves", one.NetNS, "tcp6", "["+outside6.String()+"]:80", second6.String())
	if one.Interface != "lan0" {
		t.Errorf("the interface is %s", one.Interface)
	}
	two := b.connect(Request{Name: "two"})
	if e := two.attach(Request{Network: "a"}); e.Interface != "lan0" {
		t.Errorf("the second interface is %s", e.Interface)
	}

	// A link that is trusted reaches all ports, as if there were no rules.
	serve(t, one.NetNS, "tcp", ":81")
	silent(t, "not trusted", b.other, "tcp", one.IPv4.Addr().String()+":81")
	b.create(network.CreateRequest{Name: "b", IPAM: subnet("10.62.0.0/24"), Options: map[string]string{optTrust: "uplink:nosuch"}})
	three := b.connect(Request{Name: "three", Network: "b"})
	serve(t, three.NetNS, "tcp", ":81")
	answers(t, "trusted", b.other, "tcp", three.IPv4.Addr().String()+":81", outside.String())
	silent(t, "another network is not", one.NetNS, "tcp", three.IPv4.Addr().String()+":81")

	// A bridge without an address of the host.
	b.create(network.CreateRequest{Name: "c", IPAM: subnet("10.63.0.0/24"), Options: map[string]string{optBare4: "true"}})
	four, five := b.connect(Request{Name: "four", Network: "c"}), b.connect(Request{Name: "five", Network: "c"})
	serve(t, four.NetNS, "tcp", ":81")
	answers(t, "a neighbour", five.NetNS, "tcp", four.IPv4.Addr().String()+":81", five.IPv4.Addr().String())
	addrs, err := b.n.rt.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if strings.HasPrefix(a.Prefix.String(), "10.63.") {
			t.Errorf("the host has %s", a.Prefix)
		}
	}

	for o, v := range map[string]string{
		optBare4: "perhaps", optTrust: "uplink:a/b", optNames: "a very long prefix", optHost4: "fd99::5", optHost6: "10.99.0.5",
		"com.docker.network.bridge.default_bridge": "true",
	} {
		_, err := b.n.Create(t.Context(), network.CreateRequest{Name: "bad", IPAM: subnet("10.64.0.0/24"), Options: map[string]string{o: v}})
		if errdefs.KindOf(err) != errdefs.Invalid || !strings.Contains(err.Error(), o) {
			t.Errorf("%s=%s: %v", o, v, err)
		}
	}
}
