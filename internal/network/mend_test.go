package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/store"
)

// visits lets the networks visit boxes, as the engine does with containers. It
// waits for those under way at the end of the test.
func (b *bench) visits(all ...*box) {
	b.t.Helper()
	spaces := map[string]*os.File{}
	for _, x := range all {
		spaces[x.id] = x.NetNS
	}
	var (
		wg   sync.WaitGroup
		turn sync.Mutex
	)
	b.t.Cleanup(wg.Wait)
	b.n.Visits(func(id string, f func(context.Context, *os.File) error) {
		wg.Go(func() {
			turn.Lock()
			defer turn.Unlock()
			if err := f(context.WithoutCancel(b.t.Context()), spaces[id]); err != nil {
				b.t.Errorf("visit %s: %v", id, err)
			}
		})
	})
}

// remove removes a link behind the engine's back.
func remove(t *testing.T, name string) {
	t.Helper()
	rt := dial(t)
	defer rt.Close()
	l, err := rt.LinkState(0, name)
	if err != nil {
		t.Fatal(err)
	}
	var r netlink.Request
	r.DelLink(l.Index)
	if err := rt.Do(&r); err != nil {
		t.Fatal(err)
	}
}

// works waits until a server can be reached, which takes as long as the kernel
// takes to tell and ARP to ask again.
func works(t *testing.T, what string, ns *os.File, proto, addr string) {
	t.Helper()
	eventually(t, what, func() error {
		_, err := ask(ns, proto, addr, patience)
		return err
	})
}

// TestMendAtOnce removes by hand what containers need; nobody calls the engine.
func TestMendAtOnce(t *testing.T) {
	b := newBench(t, nil)
	b.create(network.CreateRequest{Name: "a", IPAM: subnet("10.61.0.0/24")})
	empty := "br-" + b.create(network.CreateRequest{Name: "empty", IPAM: subnet("10.62.0.0/24")})[:12]
	in := "dm-" + b.create(network.CreateRequest{Name: "in", Driver: driverMacvlan, IPAM: subnet("10.63.0.0/24")})[:12]
	one := b.connect(Request{
		Name: "one", Network: "a", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8080}}, Rates: asked(1e9, 1e9),
		Sysctls: map[string]string{"net.ipv4.conf.IFNAME.forwarding": "1"},
	})
	def := b.connect(Request{Name: "def", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8081}}})
	two := b.connect(Request{Name: "two", Network: "in"})
	one.attach(Request{Name: "one", Network: "in"})
	b.visits(one, def, two)
	serve(t, one.NetNS, "tcp", ":80")
	serve(t, def.NetNS, "tcp", ":80")
	published, other := machine.String()+":8080", machine.String()+":8081"

	remove(t, b.n.bridge("a").link)
	works(t, "a bridge with a container", b.other, "tcp", published)
	remove(t, b.c.Bridge)
	works(t, "the default bridge", b.other, "tcp", other)
	remove(t, empty)
	eventually(t, "a bridge without containers", func() error { _, err := b.n.rt.LinkState(0, empty); return err })

	before, _ := b.n.first(one.id)
	remove(t, before.Link)
	works(t, "an interface", b.other, "tcp", published)
	after, _ := b.n.first(one.id)
	if after.Link == before.Link || after.ID != before.ID || after.IPv4 != before.IPv4 || after.MAC != before.MAC {
		t.Errorf("was %+v, is %+v", before, after)
	}
	if in, out, err := b.n.Shaping(one.id); err != nil || in == nil || out == nil || in.Rate != 1e9 || out.Rate != 1e9 {
		t.Errorf("its limits: %+v, %+v, %v", in, out, err)
	}
	err := netns.Do(one.NetNS, func() error {
		v, err := readFile("/proc/sys/net/ipv4/conf/eth0/forwarding")
		if err == nil && strings.TrimSpace(v) != "1" {
			err = fmt.Errorf("it is %q", v)
		}
		return err
	})
	if err != nil {
		t.Errorf("a parameter of it: %v", err)
	}

	member, _ := b.n.record(one.id)
	remove(t, in)
	works(t, "the parent of children", two.NetNS, "tcp", member.in("in").IPv4.Addr().String()+":80")
	works(t, "the other network", b.other, "tcp", published)
}

// TestMendAfterwards starts the engine after all was removed, and a crash left an
// interface in a container.
func TestMendAfterwards(t *testing.T) {
	b := newBench(t, nil)
	b.create(lan(b, driverMacvlan))
	one := b.connect(Request{Name: "one", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8080}}})
	serve(t, one.NetNS, "tcp", ":80")
	e, _ := b.n.first(one.id)
	parent, err := b.n.rt.LinkState(0, "uplink")
	if err != nil {
		t.Fatal(err)
	}
	var r netlink.Request
	r.AddMacvlan(netlink.Child{Name: "eth1", Parent: parent.Index, NS: one.NetNS, Group: childGroup}, netlink.MacvlanBridge)
	if err := b.n.rt.Do(&r); err != nil {
		t.Fatal(err)
	}
	b.crash()
	remove(t, e.Link)
	b.start()
	b.visits(one)
	if err := b.n.Restore(t.Context(), map[string]bool{one.id: true}); err != nil {
		t.Fatal(err)
	}
	works(t, "an interface", b.other, "tcp", machine.String()+":8080")
	eventually(t, "what a crash left is gone", func() error {
		return netns.Do(one.NetNS, func() error {
			if _, err := net.InterfaceByName("eth1"); err == nil {
				return errors.New("eth1 is there")
			}
			return nil
		})
	})
}

// TestRoutes adds a route of the host to where a network is.
func TestRoutes(t *testing.T) {
	told := make(chan string, 16)
	b := newBench(t, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(each(func(p []byte) { told <- string(p) }), &slog.HandlerOptions{Level: slog.LevelWarn}))
	})
	b.create(network.CreateRequest{Name: "a", IPAM: subnet("10.61.0.0/24")})
	if got, err := b.n.Conflicts(); err != nil || len(got) != 0 {
		t.Errorf("before: %q, %v", got, err)
	}
	route := func(typ uint16, flags uint16) {
		uplink := b.link("uplink")
		var r netlink.Request
		r.Message(typ, flags)
		r.Header(unix.AF_INET, 16, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_LINK, unix.RTN_UNICAST, 0, 0, 0, 0)
		r.Attr(unix.RTA_DST, []byte{10, 61, 0, 0})
		r.Uint32(unix.RTA_OIF, uint32(uplink.Index))
		if err := b.n.rt.Do(&r); err != nil {
			t.Fatal(err)
		}
	}
	route(unix.RTM_NEWROUTE, unix.NLM_F_CREATE)
	if line := <-told; !strings.Contains(line, "network=a subnet=10.61.0.0/24 route=10.61.0.0/16 link=uplink") {
		t.Errorf("told: %s", line)
	}
	want := "WARNING: The host's route to 10.61.0.0/16 through uplink overlaps the subnet 10.61.0.0/24 of the network a"
	if got, err := b.n.Conflicts(); err != nil || len(got) != 1 || !strings.HasPrefix(got[0], want) {
		t.Errorf("with the route: %q, %v", got, err)
	}
	route(unix.RTM_DELROUTE, 0)
	if got, err := b.n.Conflicts(); err != nil || len(got) != 0 {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}

// each is called with every write.
type each func(p []byte)

func (w each) Write(p []byte) (int, error) { w(p); return len(p), nil }

// TestClaim starts a second engine with the same bridge.
func TestClaim(t *testing.T) {
	b := newBench(t, func(c *Config) { c.PoolSize = -1 })
	before := b.inventory()
	s, err := store.Open(t.TempDir(), b.c.Logger)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	second := b.c
	second.Store = s
	if _, err := New(t.Context(), second); errdefs.KindOf(err) != errdefs.Conflict || !strings.Contains(err.Error(), "belongs to another engine that runs") {
		t.Errorf("a second engine: %v", err)
	}
	if now := b.inventory(); !slices.Equal(now, before) {
		t.Errorf("before %v, now %v", before, now)
	}

	// It goes with the process, as with kill -9.
	b.crash()
	b.start()
}

// TestCrowded starts an engine with a bridge in which another one has containers.
func TestCrowded(t *testing.T) {
	b := newBench(t, nil)
	b.crash()
	rt := dial(t)
	defer rt.Close()
	var r netlink.Request
	r.AddBridge("ltdocker0", hardware(netip.MustParseAddr("10.66.0.1")), 1500)
	r.AddVeth(netlink.Veth{Name: "veth1234567", MTU: 1500, Peer: "vethpeer"})
	if err := rt.Do(&r); err != nil {
		t.Fatal(err)
	}
	bridge, err := rt.LinkState(0, "ltdocker0")
	if err != nil {
		t.Fatal(err)
	}
	r.Reset()
	r.AddPort(0, "veth1234567", bridge.Index)
	r.AddAddr(bridge.Index, netip.MustParsePrefix("10.66.0.1/24"))
	if err := rt.Do(&r); err != nil {
		t.Fatal(err)
	}
	defer remove(t, "ltdocker0")
	defer remove(t, "veth1234567")
	try := func(fixed string) error {
		s, err := store.Open(t.TempDir(), b.c.Logger)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		c := b.c
		c.Store, c.Bridge = s, "ltdocker0"
		if fixed != "" {
			c.FixedCIDR = netip.MustParsePrefix(fixed)
		}
		n, err := New(t.Context(), c)
		if err == nil {
			err = n.Destroy(t.Context())
		}
		return err
	}
	if err := try(""); errdefs.KindOf(err) != errdefs.Conflict || !strings.Contains(err.Error(), "the bridge ltdocker0 is in use by another engine (veth1234567 is its port)") {
		t.Errorf("without a part of its own: %v", err)
	}
	if err := try("10.66.0.128/25"); err != nil {
		t.Errorf("with a part of its own: %v", err)
	}
	if _, err := rt.LinkState(0, "ltdocker0"); err != nil {
		t.Errorf("the bridge of the other: %v", err)
	}
	b.start()
}
