package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/network/ipam"
)

// end releases a container, as after its last process, and reports whether its
// namespace went back to the pool.
func (x *box) end() bool {
	x.b.t.Helper()
	r, _ := x.b.n.first(x.id)
	x.NetNS.Close()
	if err := x.b.n.Release(context.Background(), x.id); err != nil {
		x.b.t.Error(err)
	}
	again := false
	for range len(x.b.n.def.pool.slots) {
		s := <-x.b.n.def.pool.slots
		again = again || s.link == r.Link
		x.b.n.def.pool.slots <- s
	}
	return again
}

// harmless connects a container whose namespace may be used again.
func (b *bench) harmless() *box {
	b.t.Helper()
	x := b.connect(Request{})
	b.n.Harmless(x.id)
	return x
}

// again connects until a container gets the namespace with that link.
func (b *bench) again(link string, r Request) *box {
	b.t.Helper()
	for range 10 {
		x := b.connect(r)
		if rec, _ := b.n.first(x.id); rec.Link == link {
			return x
		}
		x.end()
	}
	b.t.Fatal("the namespace is not used again")
	return nil
}

// TestReuse gives the namespace of one container to the next one.
func TestReuse(t *testing.T) {
	b := newBench(t, nil)
	peer := b.connect(Request{})
	const noise = 50
	for round := range 3 {
		old := b.harmless()
		rec, _ := b.n.first(old.id)
		for range noise {
			broadcast(t, old.IPv4)
		}
		if s, err := b.n.Stats(old.id); err != nil || s[inside].RxPackets < noise {
			t.Errorf("counters %+v, %v; want %d packets at least", s, err, noise)
		}
		if !old.end() {
			t.Fatal("not used again")
		}
		if _, err := ask(peer.NetNS, "tcp", old.IPv4.Addr().String()+":80", silence); err == nil {
			t.Error("the old address answers")
		}
		x := b.again(rec.Link, Request{Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: uint16(8000 + round)}}})
		if x.IPv4 == old.IPv4 {
			t.Errorf("the address is the same: %s", x.IPv4)
		}
		if s, err := b.n.Stats(x.id); err != nil || s[inside].TxPackets != 0 || s[inside].RxPackets >= noise { // the bridge may just ask around
			t.Errorf("counters of a new container: %+v, %v", s, err)
		}
		if err := netns.Do(x.NetNS, func() error { return inspect(t, x) }); err != nil {
			t.Error(err)
		}
		serve(t, x.NetNS, "tcp", ":80")
		answers(t, "from another container", peer.NetNS, "tcp", x.IPv4.Addr().String()+":80", peer.IPv4.Addr().String())
		answers(t, "from the host", nil, "tcp", x.IPv4.Addr().String()+":80", "")
		answers(t, "from outside", b.other, "tcp", fmt.Sprintf("%s:%d", machine, 8000+round), outside.String())
		silent(t, "the old address", peer.NetNS, "tcp", old.IPv4.Addr().String()+":80")
		if s, err := b.n.Stats(x.id); err != nil || s[inside].TxPackets == 0 || s[inside].RxBytes == 0 {
			t.Errorf("counters: %+v, %v", s, err)
		}
		b.n.Harmless(x.id)
		if x.end() {
			t.Error("a namespace that has sent packets is used again")
		}
	}
}

// broadcast sends a datagram to everybody on a subnet.
func broadcast(t *testing.T, p netip.Prefix) {
	t.Helper()
	c, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.WriteTo([]byte("?"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(ipam.Last(p), 9))); err != nil {
		t.Fatal(err)
	}
}

// inspect checks, inside, that a namespace is as good as new.
func inspect(t *testing.T, x *box) error {
	c := dial(t)
	defer c.Close()
	addrs, err := c.Addrs()
	if err != nil {
		return err
	}
	if len(addrs) != 2 || addrs[0].Prefix.String() != "127.0.0.1/8" || addrs[1].Prefix != x.IPv4 {
		t.Errorf("addresses %v", addrs)
	}
	eth0, err := c.Link(0, inside)
	if err != nil {
		return err
	}
	if string(eth0.MAC) != string(x.MAC) {
		t.Errorf("hardware address %x, want %x", eth0.MAC, x.MAC)
	}
	routes, err := c.Routes()
	if err != nil {
		return err
	}
	gateways := 0
	for _, r := range routes {
		if r.Gateway.IsValid() {
			gateways++
		}
		if a := r.Dst.Addr(); r.Dst.Bits() > 0 && !a.IsLoopback() && !x.IPv4.Masked().Contains(a) {
			t.Errorf("route %+v", r)
		}
	}
	if gateways != 1 {
		t.Errorf("%d gateways: %+v", gateways, routes)
	}
	for name, want := range map[string]string{
		"/proc/thread-self/net/arp":                     "IP address       HW type     Flags       HW address            Mask     Device\n",
		"/proc/thread-self/net/rt_cache":                "*",
		"/proc/sys/net/ipv4/ip_unprivileged_port_start": "0\n",
		"/proc/sys/net/ipv4/ping_group_range":           "0\t2147483647\n",
		"/proc/sys/net/ipv6/conf/eth0/disable_ipv6":     "1\n",
		"/proc/sys/net/ipv6/conf/default/disable_ipv6":  "0\n",
		"/proc/thread-self/net/unix":                    "*",
	} {
		raw, err := os.ReadFile(name)
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		if want != "*" && string(raw) != want {
			t.Errorf("%s: %q, want %q", name, raw, want)
		}
	}
	return nil
}

// TestNoReuse leaves something behind in a namespace, which is then given up.
func TestNoReuse(t *testing.T) {
	b := newBench(t, nil)
	// socket opens one that outlives the container, as an abandoned child or a
	// descriptor sent elsewhere would keep it.
	socket := func(family, kind, proto int, bind unix.Sockaddr) func(*testing.T, *box) {
		return func(t *testing.T, x *box) {
			err := netns.Do(x.NetNS, func() error {
				fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, proto)
				if err != nil {
					return err
				}
				t.Cleanup(func() { unix.Close(fd) })
				if bind == nil {
					return nil
				}
				if err := unix.Bind(fd, bind); err != nil || kind != unix.SOCK_STREAM {
					return err
				}
				return unix.Listen(fd, 1)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	inNS := func(build func(*netlink.Request, *box)) func(*testing.T, *box) {
		return func(t *testing.T, x *box) {
			err := netns.Do(x.NetNS, func() error {
				c := dial(t)
				defer c.Close()
				var r netlink.Request
				build(&r, x)
				return c.Do(&r)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	device := func(x *box) int { return b.n.leases[x.id].slot.device }
	for _, tc := range []struct {
		name string
		do   func(*testing.T, *box)
		fine bool
	}{
		{"nothing", func(*testing.T, *box) {}, true},
		{"a listener that is closed", func(t *testing.T, x *box) {
			t.Run("", func(t *testing.T) { socket(unix.AF_INET, unix.SOCK_STREAM, 0, &unix.SockaddrInet4{Port: 80})(t, x) })
		}, true},
		{"shared", func(t *testing.T, x *box) {
			if err := b.n.Share(x.id); err != nil {
				t.Error(err)
			}
		}, false},
		{"listener", socket(unix.AF_INET, unix.SOCK_STREAM, 0, &unix.SockaddrInet4{Port: 80}), false},
		{"IPv6 listener", socket(unix.AF_INET6, unix.SOCK_STREAM, 0, &unix.SockaddrInet6{Port: 80, Addr: netip.IPv6Loopback().As16()}), false},
		{"datagrams", socket(unix.AF_INET, unix.SOCK_DGRAM, 0, nil), false},
		{"raw socket", socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP, nil), false},
		{"packet socket", socket(unix.AF_PACKET, unix.SOCK_RAW, 0, nil), false},
		{"abstract name", socket(unix.AF_UNIX, unix.SOCK_STREAM, 0, &unix.SockaddrUnix{Name: "@lade"}), false},
		{"netlink socket", socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE, &unix.SockaddrNetlink{Groups: 1}), false},
		{"TIME_WAIT", func(t *testing.T, x *box) {
			err := netns.Do(x.NetNS, func() error {
				l, err := net.Listen("tcp4", "127.0.0.1:80")
				if err != nil {
					return err
				}
				defer l.Close()
				c, err := net.Dial("tcp4", "127.0.0.1:80")
				if err != nil {
					return err
				}
				s, err := l.Accept()
				if err != nil {
					return err
				}
				c.Close()
				return s.Close()
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, tw, err := b.n.leases[x.id].slot.sockets.Count(); tw != 1 || err != nil {
				t.Errorf("%d connections in TIME_WAIT, %v", tw, err)
			}
		}, false},
		{"a datagram to itself", func(t *testing.T, x *box) { send(t, x, "127.0.0.1:9") }, false},
		{"a datagram to the gateway", func(t *testing.T, x *box) { send(t, x, x.Gateway.String()+":9") }, false},
		{"a datagram to nobody", func(t *testing.T, x *box) { send(t, x, last(x.IPv4).String()+":9") }, false}, // asks for its neighbour
		{"asked by somebody", func(t *testing.T, x *box) {
			if _, err := ask(nil, "tcp", x.IPv4.Addr().String()+":80", patience); err == nil {
				t.Error("answers")
			}
		}, false},
		{"address", inNS(func(r *netlink.Request, x *box) { r.AddAddr(device(x), netip.MustParsePrefix("10.98.0.1/24")) }), false},
		{"IPv6 address", inNS(func(r *netlink.Request, x *box) { r.AddAddr(loIndex, netip.MustParsePrefix("fd00::1/64")) }), false},
		{"link", inNS(func(r *netlink.Request, x *box) {
			r.AddVeth(netlink.Veth{Name: "a", Peer: "b", MTU: 1500})
			r.SetUp(0, "a")
		}), false},
		{"MTU", inNS(func(r *netlink.Request, x *box) { r.SetMTU(device(x), 1400) }), false},
		{"other master", func(t *testing.T, x *box) {
			rec, _ := b.n.first(x.id)
			var r netlink.Request
			r.AddPort(0, rec.Link, 0)
			if err := b.n.rt.Do(&r); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := b.harmless()
			tc.do(t, x)
			if got := x.end(); got != tc.fine {
				t.Errorf("used again: %t", got)
			}
		})
	}
	t.Run("not known to be harmless", func(t *testing.T) {
		if b.connect(Request{}).end() {
			t.Error("used again")
		}
	})
	t.Run("sysctl", func(t *testing.T) {
		x := b.connect(Request{Sysctls: map[string]string{"net.ipv4.ip_default_ttl": "77"}})
		b.n.Harmless(x.id)
		if x.end() {
			t.Error("used again")
		}
	})
	t.Run("connected before a restart", func(t *testing.T) {
		x := b.harmless()
		b.crash()
		b.start()
		b.n.Harmless(x.id)
		if x.end() {
			t.Error("used again")
		}
	})
	if err := b.n.Share("nobody"); errdefs.KindOf(err) != errdefs.NotFound {
		t.Errorf("Share of a container that is not connected: %v", err)
	}
}

// last returns the highest host address of a subnet.
func last(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	a[3] |= 250
	return netip.AddrFrom4(a)
}

// send sends a datagram that nobody answers.
func send(t *testing.T, x *box, to string) {
	t.Helper()
	err := netns.Do(x.NetNS, func() error {
		c, err := net.Dial("udp4", to)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("?"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestReuseBound ends more containers than the pool has room for.
func TestReuseBound(t *testing.T) {
	b := newBench(t, nil)
	var all []*box
	for range 3 * b.c.PoolSize {
		all = append(all, b.harmless())
	}
	eventually(t, "a full pool", func() error {
		if n := len(b.n.def.pool.slots); n < b.c.PoolSize {
			return fmt.Errorf("%d slots", n)
		}
		return nil
	})
	kept := 0
	for _, x := range all {
		if x.end() {
			kept++
		}
	}
	if kept == 0 || kept > b.c.PoolSize || len(b.n.def.pool.slots) > 2*b.c.PoolSize {
		t.Errorf("%d namespaces kept, %d in the pool", kept, len(b.n.def.pool.slots))
	}
	// Those that were given up are gone, and their links.
	eventually(t, "no links but those of the pool", func() error {
		links, err := b.n.rt.Links()
		m := slices.DeleteFunc(links, func(l netlink.Link) bool { return !strings.HasPrefix(l.Name, b.n.def.pool.prefix) })
		if err == nil && len(m) != len(b.n.def.pool.slots) {
			return fmt.Errorf("%d links, %d slots", len(m), len(b.n.def.pool.slots))
		}
		return err
	})
	time.Sleep(2 * rest) // the workers have nothing to do
	if n := len(b.n.def.pool.slots); n > 2*b.c.PoolSize {
		t.Errorf("%d slots", n)
	}
}
