package overlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"lade/internal/errdefs"
	"lade/internal/linux/xfrm"
)

// TestSlice divides subnets, and checks that the parts cover them and that none
// overlaps another.
func TestSlice(t *testing.T) {
	for _, tc := range []struct {
		subnet string
		parts  int
		want   []string // the first ones
	}{
		{"10.1.0.0/24", 1, []string{"10.1.0.0/24"}},
		{"10.1.0.0/24", 2, []string{"10.1.0.0/25", "10.1.0.128/25"}},
		{"10.1.0.0/16", 256, []string{"10.1.0.0/24", "10.1.1.0/24", "10.1.2.0/24"}},
		{"10.0.0.0/9", 4, []string{"10.0.0.0/11", "10.32.0.0/11", "10.64.0.0/11", "10.96.0.0/11"}},
		{"fd00:1::/64", 16, []string{"fd00:1::/68", "fd00:1:0:0:1000::/68"}},
	} {
		subnet := netip.MustParsePrefix(tc.subnet)
		var all []netip.Prefix
		for i := range tc.parts {
			p, err := Slice(subnet, i, tc.parts)
			if err != nil {
				t.Fatal(err)
			}
			if i < len(tc.want) && p.String() != tc.want[i] {
				t.Errorf("%s, %d of %d: %s, want %s", subnet, i, tc.parts, p, tc.want[i])
			}
			if p != p.Masked() || !subnet.Contains(p.Addr()) {
				t.Errorf("%s is not a part of %s", p, subnet)
			}
			for _, o := range all {
				if o.Overlaps(p) {
					t.Errorf("%s overlaps %s", p, o)
				}
			}
			all = append(all, p)
		}
	}
	for _, parts := range []int{128, 4096} {
		if _, err := Slice(netip.MustParsePrefix("10.1.0.0/24"), 0, parts); !errors.Is(err, errdefs.Invalid) {
			t.Errorf("a /24 in %d parts: %v", parts, err)
		}
	}
}

func TestFirst(t *testing.T) {
	subnet := netip.MustParsePrefix("10.1.0.0/24")
	for part, want := range map[string]string{"10.1.0.0/25": "10.1.0.1", "10.1.0.128/25": "10.1.0.128", "10.1.0.0/24": "10.1.0.1"} {
		if got := First(subnet, netip.MustParsePrefix(part)); got.String() != want {
			t.Errorf("First(%s) = %s, want %s", part, got, want)
		}
	}
}

// TestMTU compares with the sizes on the wire worked out by hand: 1400 bytes in a
// frame of 1414, VXLAN 8, UDP 8, filled with 2 bytes of ESP to 1440, ESP 8+16+16.
func TestMTU(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	for _, tc := range []struct {
		link      int
		local     netip.Addr
		encrypted bool
		want      int
	}{{1500, v4, false, 1450}, {1500, v6, false, 1430}, {1500, v4, true, 1408}, {1500, v6, true, 1376}, {9000, v4, false, 8950}} {
		if got := MTU(tc.link, tc.local, tc.encrypted); got != tc.want {
			t.Errorf("MTU(%d, %s, %v) = %d, want %d", tc.link, tc.local, tc.encrypted, got, tc.want)
		}
	}
}

// TestPlace gives each host of a list and of a name a part of its own.
func TestPlace(t *testing.T) {
	hosts := addrs("10.0.0.7", "10.0.0.3", "10.0.9.7")
	listed := Options{Peers: []string{"10.0.0.7", "10.0.0.3", "10.0.9.7"}}
	for i, h := range hosts {
		if number, parts, err := listed.Place(hosts, h); number != i || parts != 4 || err != nil {
			t.Errorf("%s: %d of %d, %v", h, number, parts, err)
		}
	}
	named := Options{Peers: []string{"tasks.example"}}
	if number, parts, err := named.Place(hosts[:2], hosts[1]); number != 3 || parts != 256 || err != nil {
		t.Errorf("%d of %d, %v", number, parts, err)
	}
	for what, tc := range map[string]struct {
		o     Options
		local string
		want  string
	}{
		"same bits":  {named, "10.0.9.7", "the same last 8 bits"},
		"not listed": {listed, "10.0.0.8", "is not one of the peers 10.0.0.7, 10.0.0.3, 10.0.9.7"},
		"too few":    {Options{Peers: listed.Peers, Slices: 2}, "10.0.9.7", "2 slices are too few for 3 hosts"},
	} {
		if _, _, err := tc.o.Place(hosts, netip.MustParseAddr(tc.local)); !errors.Is(err, errdefs.Invalid) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, _, err := (Options{Peers: named.Peers, Slices: 4096}).Place(hosts, hosts[2]); err != nil {
		t.Errorf("more bits: %v", err)
	}
}

func TestFindLocal(t *testing.T) {
	own := addrs("127.0.0.1", "10.0.0.2", "10.0.1.2")
	for _, tc := range []struct {
		local, hosts, want, err string
	}{
		{"", "10.0.0.1 10.0.0.2", "10.0.0.2", ""},
		{"10.0.1.2", "10.0.0.1", "10.0.1.2", ""},
		{"10.0.7.7", "10.0.0.1", "", "does not have the address"},
		{"", "10.0.0.1", "", "none of the peers 10.0.0.1 is this host"},
		{"", "10.0.0.2 10.0.1.2", "", "several of the peers' addresses, 10.0.0.2, 10.0.1.2"},
	} {
		var o Options
		if tc.local != "" {
			o.Local = netip.MustParseAddr(tc.local)
		}
		got, err := o.FindLocal(addrs(strings.Fields(tc.hosts)...), own)
		if tc.err != "" {
			if !errors.Is(err, errdefs.Invalid) || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%+v: %v", tc, err)
			}
		} else if err != nil || got.String() != tc.want {
			t.Errorf("%+v: %s, %v", tc, got, err)
		}
	}
}

func TestResolve(t *testing.T) {
	lookup := func(_ context.Context, host string) ([]netip.Addr, error) {
		switch host {
		case "all":
			return addrs("::ffff:10.0.0.9", "10.0.0.2", "224.0.0.1", "10.0.0.1"), nil
		case "nobody":
			return nil, nil
		}
		return nil, fmt.Errorf("lookup %s: no such host", host)
	}
	got, err := Resolve(t.Context(), []string{"10.0.0.5", "all", "10.0.0.1"}, lookup)
	if want := addrs("10.0.0.5", "10.0.0.1", "10.0.0.2", "10.0.0.9"); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, name := range []string{"nobody", "else"} {
		if got, err := Resolve(t.Context(), []string{name}, lookup); !errors.Is(err, errdefs.Invalid) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// TestParse reads options as Docker's client sends them.
func TestParse(t *testing.T) {
	o, err := Parse("net", map[string]string{"peers": "10.0.0.1, tasks.example", "vni": "42", "encrypted": "", "key": "/k", "com.docker.network.driver.mtu": "1400"})
	if err != nil || o.VNI != 42 || o.Port != EncryptedPort || !o.Encrypted || len(o.Peers) != 2 {
		t.Errorf("%+v, %v", o, err)
	}
	one, err := Parse("one", map[string]string{"peers": "10.0.0.1"})
	if err != nil || one.Port != Port || one.VNI < 4096 {
		t.Errorf("%+v, %v", one, err)
	}
	if again, _ := Parse("one", map[string]string{"peers": "10.0.0.2"}); again.VNI != one.VNI {
		t.Error("another host takes another VNI")
	}
	for _, tc := range []struct{ option, value, want string }{
		{"peers", "", "neither an address nor a name"},
		{"peers", "10.0.0.1,,10.0.0.2", "neither an address nor a name"},
		{"peers", "10.0.0.256", "neither an address nor a name"},
		{"peers", "10.0.0.1,10.0.0.1", "is there twice"},
		{"peers", "224.0.0.1", "is not the address of a host"},
		{"peers", "fe80::1%eth0", "is not the address of a host"},
		{"peers", strings.Repeat("a,", 300) + "b", "is there twice"},
		{"vni", "0", "not one number between"},
		{"vni", "16777216", "not one number between"},
		{"com.docker.network.driver.overlay.vxlanid_list", "1,2", "not one number between"},
		{"port", "0", "not a port"},
		{"port", "65536", "value out of range"},
		{"local", "0.0.0.0", "not the address of a host"},
		{"slices", "3", "not a power of two"},
		{"slices", "0", "not a power of two"},
		{"bridges", "10.90.0.1,web", "unable to parse IP"},
		{"bridges", "10.90.0.1,10.90.0.1", "is there twice"},
		{"encrypted", "perhaps", "invalid syntax"},
		{"encrypted", "", "needs a key"},
		{"key", "/k", "a key is for an encrypted overlay network"},
		{"key", "k", "not an absolute path"},
	} {
		m := map[string]string{"peers": "10.0.0.1"}
		m[tc.option] = tc.value
		if _, err := Parse("n", m); !errors.Is(err, errdefs.Invalid) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s=%s: %v", tc.option, tc.value, err)
		}
	}
	if _, err := Parse("n", nil); !errors.Is(err, errdefs.Invalid) || !strings.Contains(err.Error(), "needs its hosts") {
		t.Errorf("no peers: %v", err)
	}
}

func addrs(s ...string) (out []netip.Addr) {
	for _, s := range s {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// TestStates checks that both hosts have the same keys, and that no two of them
// are alike.
func TestStates(t *testing.T) {
	key := []byte("0123456789abcdef")
	a, b := Config{Local: netip.MustParseAddr("10.0.0.1"), Port: EncryptedPort}, Config{Local: netip.MustParseAddr("10.0.0.2"), Port: EncryptedPort}
	of := func(c Config, key []byte, peer netip.Addr) []xfrm.State {
		s, err := c.States(key, peer)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	here, there := of(a, key, b.Local), of(b, key, a.Local)
	if here[0] != there[1] || here[1] != there[0] || here[0].Src != a.Local || here[1].Dst != a.Local {
		t.Errorf("%v\n%v", here, there)
	}
	all := append(slices.Concat(here, of(a, key, netip.MustParseAddr("10.0.0.3")), of(a, []byte("0123456789abcdeF"), b.Local)),
		of(Config{Local: a.Local, Port: 4800}, key, b.Local)...)
	spis, keys := map[uint32]bool{}, map[string]bool{}
	for _, s := range all {
		spis[s.SPI], keys[string(s.Encrypt[:])], keys[string(s.Integrity[:])] = true, true, true
	}
	if len(spis) != len(all) || len(keys) != 2*len(all) {
		t.Errorf("%d SPIs and %d keys of %d states", len(spis), len(keys), len(all))
	}
}
