package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/netrate"
)

// needKind skips a test of what this kernel has not. make test-vm runs it where
// it is.
func needKind(t *testing.T, b *bench, kind string) {
	t.Helper()
	if !b.n.rt.HasKind(kind) {
		t.Skipf("this kernel has no %s (CONFIG_%s)", kind, strings.ToUpper(kind))
	}
}

// lan is a subnet that the machine and the other host are in, on the link between
// them.
func lan(b *bench, driver string, opts ...string) network.CreateRequest {
	o := map[string]string{optParent: "uplink"}
	for _, s := range opts {
		k, v, _ := strings.Cut(s, "=")
		o[k] = v
	}
	return network.CreateRequest{
		Name: "lan", Driver: driver, Options: o,
		IPAM: &network.IPAM{Config: []network.IPAMConfig{{
			Subnet: netip.MustParsePrefix("10.99.0.0/24"), Gateway: outside, AuxAddress: map[string]netip.Addr{"machine": machine},
		}}},
	}
}

// TestMacvlan connects containers to the wire of a link of the host, in each mode.
func TestMacvlan(t *testing.T) {
	b := newBench(t, nil)
	serve(t, b.other, "tcp", ":80")
	for _, mode := range []string{"bridge", "private", "vepa"} {
		t.Run(mode, func(t *testing.T) {
			b.create(lan(b, driverMacvlan, optMacvlanMode+"="+mode))
			one := b.connect(Request{Name: "one", Network: "lan", IPv4: netip.MustParseAddr("10.99.0.7"), Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8080}}})
			two := b.connect(Request{Name: "two", Network: "lan"})
			serve(t, one.NetNS, "tcp", ":80")
			answers(t, "the outside", one.NetNS, "tcp", outside.String()+":80", "10.99.0.7")
			answers(t, "from outside, at the container's own address", b.other, "tcp", "10.99.0.7:80", outside.String())
			if mode == "bridge" {
				answers(t, "another container", two.NetNS, "tcp", "10.99.0.7:80", two.IPv4.Addr().String())
			} else {
				silent(t, "another container", two.NetNS, "tcp", "10.99.0.7:80")
			}
			silent(t, "a published port", b.other, "tcp", machine.String()+":8080")
			if len(one.Ports) != 0 {
				t.Errorf("published: %v", one.Ports)
			}
			neighbour(t, b, one)
			for _, x := range []*box{one, two} {
				x.release()
			}
			if err := b.n.Remove(t.Context(), "lan"); err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := b.n.rt.LinkState(0, "uplink"); err != nil {
		t.Errorf("the parent: %v", err)
	}
}

// release ends a box as the engine does.
func (x *box) release() {
	x.b.t.Helper()
	if err := x.b.n.Release(x.b.t.Context(), x.id); err != nil {
		x.b.t.Error(err)
	}
	x.NetNS.Close()
}

// neighbour checks that the other host knows a container by the hardware address
// that inspect shows.
func neighbour(t *testing.T, b *bench, x *box) {
	t.Helper()
	err := in(b.other, func() error {
		arp, err := readFile("/proc/thread-self/net/arp")
		if err != nil {
			return err
		}
		for line := range strings.Lines(arp) {
			if f := strings.Fields(line); len(f) > 3 && f[0] == x.IPv4.Addr().String() && f[3] == x.MAC.String() {
				return nil
			}
		}
		return fmt.Errorf("no neighbour %s %s in\n%s", x.IPv4.Addr(), x.MAC, arp)
	})
	if err != nil {
		t.Error(err)
	}
}

// TestPassthru lends the link itself to one container.
func TestPassthru(t *testing.T) {
	b := newBench(t, nil)
	serve(t, b.other, "tcp", ":80")
	b.create(lan(b, driverMacvlan, optMacvlanMode+"="+modePassthru))
	one := b.connect(Request{Name: "one", Network: "lan"})
	answers(t, "the outside", one.NetNS, "tcp", outside.String()+":80", one.IPv4.Addr().String())
	_, err := b.n.Connect(t.Context(), Request{ContainerID: "2", Name: "two", Network: "lan"})
	if errdefs.KindOf(err) != errdefs.Conflict || !strings.Contains(err.Error(), "passthru") {
		t.Errorf("a second container: %v", err)
	}
	if free := b.n.bridge("lan").users; free != 1 {
		t.Errorf("%d users", free)
	}
	q := lan(b, driverMacvlan)
	q.Name, q.IPAM = "more", subnet("10.98.0.0/24")
	if _, err := b.n.Create(t.Context(), q); errdefs.KindOf(err) != errdefs.Forbidden || !strings.HasSuffix(err.Error(), "is already using parent interface uplink in mode passthru") {
		t.Errorf("a second network: %v", err)
	}
}

// TestMacvlanInternal has no parent: containers reach each other and nothing
// else, and the link in its place goes with the network.
func TestMacvlanInternal(t *testing.T) {
	b := newBench(t, nil)
	six := true
	id := b.create(network.CreateRequest{Name: "in", Driver: driverMacvlan, EnableIPv6: &six, IPAM: subnet("10.97.0.0/24", "fd97::/64")})
	parent := "dm-" + id[:12]
	one := b.connect(Request{Name: "one", Network: "in"})
	two := b.connect(Request{Name: "two", Network: "in", IPv6: netip.MustParseAddr("fd97::22")})
	serve(t, two.NetNS, "tcp", ":80")
	serve(t, two.NetNS, "tcp6", "[::]:81")
	answers(t, "IPv4", one.NetNS, "tcp", two.IPv4.Addr().String()+":80", one.IPv4.Addr().String())
	answers(t, "IPv6", one.NetNS, "tcp6", "[fd97::22]:81", one.IPv6.Addr().String())
	if _, err := ask(one.NetNS, "tcp", outside.String()+":80", silence); !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("outside: %v", err)
	}
	if in, err := b.n.Inspect("in"); err != nil || in.Driver != driverMacvlan || in.IPAM.Config[0].Gateway.IsValid() || len(in.Containers) != 2 {
		t.Errorf("inspect: %+v, %v", in, err)
	}
	stats, err := b.n.Stats(one.id)
	if err != nil || stats["eth0"].TxPackets == 0 || stats["eth0"].RxBytes == 0 {
		t.Errorf("statistics: %+v, %v", stats, err)
	}

	// A daemon that starts again finds all of it.
	b.crash()
	b.start()
	if err := b.n.Restore(t.Context(), map[string]bool{one.id: true, two.id: true}); err != nil {
		t.Fatal(err)
	}
	answers(t, "after a crash", one.NetNS, "tcp", two.IPv4.Addr().String()+":80", one.IPv4.Addr().String())
	if stats, err := b.n.Stats(one.id); err != nil || stats["eth0"].TxPackets == 0 {
		t.Errorf("statistics after a crash: %+v, %v", stats, err)
	}
	one.release()
	two.release()
	if err := b.n.Remove(t.Context(), "in"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.n.rt.LinkState(0, parent); !errors.Is(err, unix.ENODEV) {
		t.Errorf("the link of the network: %v", err)
	}
}

// TestMacvlanLive takes running containers in and out, besides a bridge, which
// has the published ports when it has the default route.
func TestMacvlanLive(t *testing.T) {
	b := newBench(t, nil)
	serve(t, b.other, "tcp", ":80")
	b.create(lan(b, driverMacvlan))
	b.create(network.CreateRequest{Name: "web", IPAM: subnet("10.96.0.0/24")})
	x := b.connect(Request{Name: "x", Network: "web", Priority: 1, Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8080}}})
	serve(t, x.NetNS, "tcp", ":80")
	mac, _ := net.ParseMAC("02:42:00:00:00:77")
	e := x.attach(Request{Network: "lan", IPv4: netip.MustParseAddr("10.99.0.9"), MAC: mac, Interface: "lan0"})
	if e.Interface != "lan0" || e.MAC.String() != mac.String() {
		t.Errorf("attached: %+v", e)
	}
	answers(t, "the wire", x.NetNS, "tcp", outside.String()+":80", "10.99.0.9")
	neighbour(t, b, &box{b, x.id, e})
	answers(t, "the published port", nil, "tcp", "127.0.0.1:8080", "")
	if err := b.n.Detach(t.Context(), x.id, "lan", x.NetNS); err != nil {
		t.Fatal(err)
	}
	silent(t, "after disconnect", b.other, "tcp", "10.99.0.9:80")
	answers(t, "the bridge goes on", x.NetNS, "tcp", outside.String()+":80", machine.String())

	// One of higher priority takes the default route, and the ports with it.
	x.attach(Request{Network: "lan", Priority: 2, IPv4: netip.MustParseAddr("10.99.0.9")})
	silent(t, "the published port without its route", nil, "tcp", "127.0.0.1:8080")
	if err := b.n.Detach(t.Context(), x.id, "web", x.NetNS); err != nil {
		t.Fatal(err)
	}
	answers(t, "macvlan alone", b.other, "tcp", "10.99.0.9:80", outside.String())
	if err := b.n.Remove(t.Context(), "lan"); errdefs.KindOf(err) != errdefs.Forbidden {
		t.Errorf("removal while in use: %v", err)
	}

	// What a crash left in a container goes when its name is needed.
	err := in(x.NetNS, func() error {
		conn, err := netlink.Dial(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer conn.Close()
		parent, err := b.n.rt.LinkState(0, "uplink")
		if err != nil {
			return err
		}
		var r netlink.Request
		r.AddMacvlan(netlink.Child{Name: "eth0", Parent: parent.Index, NS: x.NetNS, Group: childGroup}, netlink.MacvlanBridge)
		return b.n.rt.Do(&r)
	})
	if err != nil {
		t.Fatal(err)
	}
	b.create(network.CreateRequest{Name: "more", Driver: driverMacvlan, Options: map[string]string{optParent: "uplink"}, IPAM: subnet("10.95.0.0/24")})
	x.attach(Request{Network: "more", Interface: "eth0"})
}

// TestMacvlanRefusals are in Docker's words, and change nothing.
func TestMacvlanRefusals(t *testing.T) {
	b := newBench(t, func(c *Config) { c.PoolSize = -1 })
	b.create(lan(b, driverMacvlan))
	before := b.inventory()
	for _, c := range []struct {
		driver string
		opts   string
		kind   errdefs.Kind
		text   string
	}{
		{driverMacvlan, "macvlan_mode=loose", errdefs.Invalid, "requested macvlan mode 'loose' is not valid, 'bridge' mode is the macvlan driver default"},
		{driverMacvlan, "parent=lo", errdefs.Invalid, "loopback interface is not a valid macvlan parent link"},
		{driverMacvlan, "parent=nosuch", errdefs.Invalid, "invalid subinterface vlan name nosuch, example formatting is eth0.10"},
		{driverMacvlan, "parent=uplink.x", errdefs.Invalid, "unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)"},
		{driverMacvlan, "parent=uplink.4095", errdefs.Invalid, "vlan id must be between 1-4094, received: 4095"},
		{driverMacvlan, "parent=nosuch.5", errdefs.Invalid, "-o parent interface was not found on the host: nosuch"},
		{driverMacvlan, "parent=a name that is too long", errdefs.Invalid, `invalid value for driver-opt "parent"`},
		{driverMacvlan, "com.docker.network.bridge.name=br0", errdefs.Invalid, "there is no such option of a macvlan network"},
		{driverMacvlan, "com.docker.network.driver.mtu=many", errdefs.Invalid, `invalid value for driver-opt "com.docker.network.driver.mtu"`},
		{driverMacvlan, "parent=uplink,macvlan_mode=passthru", errdefs.Forbidden, "cannot use mode passthru, macvlan network"},
		{driverIPVLAN, "ipvlan_mode=l4", errdefs.Invalid, "requested ipvlan mode 'l4' is not valid, 'l2' mode is the ipvlan driver default"},
		{driverIPVLAN, "ipvlan_flag=loose", errdefs.Invalid, "requested ipvlan flag 'loose' is not valid, 'bridge' is the ipvlan driver default"},
		{driverIPVLAN, "parent=lo", errdefs.Invalid, "loopback interface is not a valid ipvlan parent link"},
		{driverIPVLAN, "parent=uplink", errdefs.Forbidden, "is already using parent interface uplink: the kernel has either macvlan or ipvlan on a link"},
	} {
		q := network.CreateRequest{Name: "bad", Driver: c.driver, Options: map[string]string{}, IPAM: subnet("10.94.0.0/24")}
		for o := range strings.SplitSeq(c.opts, ",") {
			k, v, _ := strings.Cut(o, "=")
			q.Options[k] = v
		}
		if _, err := b.n.Create(t.Context(), q); errdefs.KindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.text) {
			t.Errorf("%s %s: %v", c.driver, c.opts, err)
		}
	}
	if now := b.inventory(); fmt.Sprint(now) != fmt.Sprint(before) {
		t.Errorf("before %v, now %v", before, now)
	}
	_, err := b.n.Connect(t.Context(), Request{ContainerID: "1", Network: "lan", Rates: asked(netrate.Bits(1e6), 0)})
	if errdefs.KindOf(err) != errdefs.Invalid {
		t.Errorf("a rate: %v", err)
	}
	if _, err := b.n.Connect(t.Context(), Request{ContainerID: "1", Network: "lan", IPv4: machine}); errdefs.KindOf(err) != errdefs.Forbidden || err.Error() != "Address already in use" {
		t.Errorf("an address in use: %v", err)
	}
	if !b.n.rt.HasKind(driverIPVLAN) {
		_, err := b.n.Create(t.Context(), network.CreateRequest{Name: "bad", Driver: driverIPVLAN})
		if errdefs.KindOf(err) != errdefs.NotImplemented || !strings.Contains(err.Error(), "the kernel has no ipvlan (CONFIG_IPVLAN)") {
			t.Errorf("ipvlan without the kernel's: %v", err)
		}
	}
	if !b.n.rt.HasKind("vlan") {
		_, err := b.n.Create(t.Context(), network.CreateRequest{Name: "bad", Driver: driverMacvlan, Options: map[string]string{optParent: "uplink.50"}})
		if errdefs.KindOf(err) != errdefs.NotImplemented || !strings.Contains(err.Error(), "the kernel has no 802.1Q (CONFIG_VLAN_8021Q)") {
			t.Errorf("a tag without the kernel's: %v", err)
		}
		if b.n.ID("bad") != "" {
			t.Error("a network that could not be made is there")
		}
	}
}

// TestVLAN makes and removes the sub-interface that two networks share; the other
// host sees the tag.
func TestVLAN(t *testing.T) {
	b := newBench(t, nil)
	needKind(t, b, "vlan")
	far := netip.MustParseAddr("10.50.0.2")
	err := in(b.other, func() error {
		conn := dial(t)
		defer conn.Close()
		eth0, err := conn.LinkState(0, "eth0")
		if err != nil {
			return err
		}
		var r netlink.Request
		r.AddVLAN(netlink.Child{Name: "tagged", Parent: eth0.Index}, 50)
		r.SetUp(0, "tagged")
		if err := conn.Do(&r); err != nil {
			return err
		}
		l, err := settle(conn, 0, "tagged")
		if err != nil {
			return err
		}
		r.Reset()
		r.AddAddr(l.Index, netip.PrefixFrom(far, 24))
		return conn.Do(&r)
	})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, b.other, "tcp", ":80")
	q := network.CreateRequest{Name: "lan", Driver: driverMacvlan, Options: map[string]string{optParent: "uplink.50"}, IPAM: subnet("10.50.0.0/24")}
	q.IPAM.Config[0].IPRange = netip.MustParsePrefix("10.50.0.128/25")
	b.create(q)
	b.create(network.CreateRequest{Name: "more", Driver: driverMacvlan, Options: map[string]string{optParent: "uplink.50"}, IPAM: subnet("10.51.0.0/24")})
	one := b.connect(Request{Name: "one", Network: "lan"})
	answers(t, "by its tag", one.NetNS, "tcp", far.String()+":80", one.IPv4.Addr().String())
	silent(t, "without it", one.NetNS, "tcp", outside.String()+":80")
	one.release()
	for i, name := range []string{"lan", "more"} {
		if err := b.n.Remove(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if _, err := b.n.rt.LinkState(0, "uplink.50"); errors.Is(err, unix.ENODEV) != (i == 1) {
			t.Errorf("the sub-interface without %s: %v", name, err)
		}
	}
}

// TestIPVLAN connects containers in each mode.
func TestIPVLAN(t *testing.T) {
	b := newBench(t, nil)
	needKind(t, b, driverIPVLAN)
	serve(t, b.other, "tcp", ":80")
	for _, c := range []struct {
		mode, flag string
		neighbours bool
	}{{"l2", "bridge", true}, {"l2", "private", false}, {modeL3, "bridge", true}, {modeL3S, "bridge", true}, {"l2", "vepa", false}} {
		t.Run(c.mode+" "+c.flag, func(t *testing.T) {
			b.create(lan(b, driverIPVLAN, optIPVLANMode+"="+c.mode, optIPVLANFlag+"="+c.flag))
			one := b.connect(Request{Name: "one", Network: "lan", IPv4: netip.MustParseAddr("10.99.0.7")})
			two := b.connect(Request{Name: "two", Network: "lan"})
			serve(t, one.NetNS, "tcp", ":80")
			if c.mode == "l2" {
				answers(t, "the outside", one.NetNS, "tcp", outside.String()+":80", "10.99.0.7")
			} else {
				routeBack(t, b, one.IPv4.Addr())
				answers(t, "the outside", one.NetNS, "tcp", outside.String()+":80", "10.99.0.7")
			}
			if c.neighbours {
				answers(t, "another container", two.NetNS, "tcp", "10.99.0.7:80", two.IPv4.Addr().String())
			} else {
				silent(t, "another container", two.NetNS, "tcp", "10.99.0.7:80")
			}
			mac, _ := net.ParseMAC("02:42:00:00:00:77")
			if _, err := b.n.Connect(t.Context(), Request{ContainerID: "3", Network: "lan", MAC: mac}); err == nil || err.Error() != "ipvlan interfaces do not support custom mac address assignment" {
				t.Errorf("a hardware address: %v", err)
			}
			q := lan(b, driverIPVLAN)
			q.Name, q.IPAM = "more", subnet("10.98.0.0/24")
			if _, err := b.n.Create(t.Context(), q); errdefs.KindOf(err) != errdefs.Forbidden {
				t.Errorf("a second network on the parent: %v", err)
			}
			one.release()
			two.release()
			if err := b.n.Remove(t.Context(), "lan"); err != nil {
				t.Error(err)
			}
		})
	}
}

// routeBack tells the other host where a container is whose network answers to
// no question for a hardware address: the kernel of the machine does not
// forward to it either, so its packets go to the machine's link.
func routeBack(t *testing.T, b *bench, ip netip.Addr) {
	t.Helper()
	up, err := b.n.rt.LinkState(0, "uplink")
	if err != nil {
		t.Fatal(err)
	}
	err = netns.Do(b.other, func() error {
		conn := dial(t)
		defer conn.Close()
		eth0, err := conn.LinkState(0, "eth0")
		if err != nil {
			return err
		}
		var r netlink.Request
		r.SetNeighbour(eth0.Index, ip, up.MAC)
		return conn.Do(&r)
	})
	if err != nil {
		t.Fatal(err)
	}
}
