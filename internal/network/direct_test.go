package network

import (
	"testing"

	"github.com/moby/moby/api/types/network"

	"lade/internal/errdefs"
	"lade/internal/need"
)

// TestDirect reaches containers at their own addresses, as the operator allows it:
// published ports, and everything for packets with a mark.
func TestDirect(t *testing.T) {
	nft := need.Program(t, "nft", "Debian's nftables")
	for _, x := range []struct {
		what             string
		change           func(*Config)
		published, other bool
	}{
		{"direct", func(c *Config) { c.Direct, c.Accept = true, Mark{0x20, 0xf0} }, true, false},
		{"marked", func(c *Config) { c.Accept = Mark{0x10, 0xf0} }, true, true},
	} {
		t.Run(x.what, func(t *testing.T) {
			b := newBench(t, x.change)
			command(t, nft, "add table ip marks; add chain ip marks in { type filter hook prerouting priority -150; }; add rule ip marks in meta mark set 0x17")
			defer command(t, nft, "delete table ip marks")
			b.create(network.CreateRequest{Name: "a", IPAM: subnet("10.61.0.0/24")})
			one := b.connect(Request{Name: "one", Network: "a", Ports: []Publish{
				{Proto: "tcp", Port: 80, HostPort: 8080}, {Proto: "tcp", Port: 82, HostPort: 8082, From: ranges(t, outside.String())}, {Proto: "tcp", Port: 83, HostPort: 8083, From: ranges(t, "192.0.2.1")},
			}})
			for _, port := range []string{":80", ":81", ":82", ":83"} {
				serve(t, one.NetNS, "tcp", port)
			}
			answers(t, "the published one, at the host", b.other, "tcp", machine.String()+":8080", outside.String())
			for port, want := range map[string]bool{":80": x.published, ":81": x.other, ":82": x.published, ":83": x.other} {
				addr := one.IPv4.Addr().String() + port
				if want {
					answers(t, addr, b.other, "tcp", addr, outside.String())
				} else {
					silent(t, addr, b.other, "tcp", addr)
				}
			}
		})
	}
}

// TestParseMark: a mark is a number and perhaps a mask that holds it.
func TestParseMark(t *testing.T) {
	for s, want := range map[string]Mark{"": {}, "1": {1, 0xffffffff}, "0x10/0xf0": {0x10, 0xf0}, "0/7": {0, 7}} {
		if got, err := ParseMark(s); err != nil || got != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"x", "1/", "/1", "-1", "4294967296", "1/0", "3/1"} {
		if _, err := ParseMark(s); errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%q: %v", s, err)
		}
	}
}
