package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/ids"
	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/linux/nft"
	"lade/internal/need"
	"lade/internal/store"
)

// onBothBridges runs f where the rules of the IP family see bridged packets and
// where they do not, as on a host without br_netfilter.
func onBothBridges(t *testing.T, f func(t *testing.T)) {
	need.Root(t)
	const name = "net/bridge/bridge-nf-call-iptables"
	before, err := os.ReadFile("/proc/sys/" + name)
	if err != nil { // br_netfilter is not there
		f(t)
		return
	}
	t.Cleanup(func() {
		if err := netns.Sysctl(name, string(before)); err != nil {
			t.Error(err)
		}
	})
	for _, v := range []string{"0", "1"} {
		if err := netns.Sysctl(name, v); err != nil {
			t.Fatal(err)
		}
		t.Run("br_netfilter="+v, f)
	}
}

func TestConnect(t *testing.T) { onBothBridges(t, testConnect) }

func testConnect(t *testing.T) {
	b := newBench(t, nil)
	gw := b.gateway().String()
	one := b.connect(Request{Name: "one", Ports: []Publish{
		{Proto: "tcp", Port: 80, HostPort: 8080},
		{Proto: "udp", Port: 53, HostPort: 8053},
		{Proto: "tcp", Port: 80, HostPort: 8081, HostIP: netip.MustParseAddr("127.0.0.1")},
		{Proto: "tcp", Port: 80, HostPort: 8082, HostIP: machine},
	}})
	two := b.connect(Request{Name: "two"})
	serve(t, one.NetNS, "tcp", ":80")
	serve(t, one.NetNS, "udp", ":53")
	serve(t, two.NetNS, "tcp", ":80")
	serve(t, b.other, "tcp", ":80")
	serve(t, b.other, "udp", ":53")
	ip1, ip2 := one.IPv4.Addr().String(), two.IPv4.Addr().String()

	answers(t, "host to container", nil, "tcp", ip1+":80", gw)
	answers(t, "container to container", two.NetNS, "tcp", ip1+":80", ip2)
	answers(t, "container to outside", one.NetNS, "tcp", outside.String()+":80", machine.String())
	answers(t, "container to outside, UDP", one.NetNS, "udp", outside.String()+":53", machine.String())
	answers(t, "outside to published", b.other, "tcp", machine.String()+":8080", outside.String())
	answers(t, "outside to published, UDP", b.other, "udp", machine.String()+":8053", outside.String())
	answers(t, "outside to host address", b.other, "tcp", machine.String()+":8082", outside.String())
	answers(t, "localhost", nil, "tcp", "127.0.0.1:8080", gw)
	answers(t, "localhost, UDP", nil, "udp", "127.0.0.1:8053", gw)
	answers(t, "localhost only", nil, "tcp", "127.0.0.1:8081", gw)
	answers(t, "host by its own address", nil, "tcp", machine.String()+":8080", "")
	answers(t, "another container through the host", two.NetNS, "tcp", gw+":8080", "")
	answers(t, "another container through the host's other address", two.NetNS, "tcp", machine.String()+":8080", "")
	answers(t, "itself through the host", one.NetNS, "tcp", gw+":8080", "")
	answers(t, "itself through the host, UDP", one.NetNS, "udp", machine.String()+":8053", "")

	silent(t, "outside to localhost only", b.other, "tcp", machine.String()+":8081")
	silent(t, "localhost to host address", nil, "tcp", "127.0.0.1:8082")
	silent(t, "outside to the container itself", b.other, "tcp", ip1+":80")
	silent(t, "outside to an unpublished port", b.other, "tcp", machine.String()+":80")
}

func TestIsolatedContainers(t *testing.T) { onBothBridges(t, testIsolatedContainers) }

func testIsolatedContainers(t *testing.T) {
	b := newBench(t, func(c *Config) { c.ICC = false })
	one := b.connect(Request{Name: "one", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8080}}})
	two := b.connect(Request{Name: "two"})
	serve(t, one.NetNS, "tcp", ":80")
	serve(t, b.other, "tcp", ":80")
	gw := b.gateway().String()
	silent(t, "container to container", two.NetNS, "tcp", one.IPv4.Addr().String()+":80")
	answers(t, "host to container", nil, "tcp", one.IPv4.Addr().String()+":80", gw)
	answers(t, "outside to published", b.other, "tcp", machine.String()+":8080", outside.String())
	answers(t, "container to outside", two.NetNS, "tcp", outside.String()+":80", machine.String())
}

func TestNoMasquerade(t *testing.T) {
	b := newBench(t, func(c *Config) { c.IPMasq = false })
	one := b.connect(Request{Name: "one"})
	serve(t, b.other, "tcp", ":80")
	answers(t, "container to outside", one.NetNS, "tcp", outside.String()+":80", one.IPv4.Addr().String())
}

// TestPorts checks who gets which port, and the words of the refusals.
func TestPorts(t *testing.T) {
	b := newBench(t, nil)
	all := netip.IPv4Unspecified()
	lo := netip.MustParseAddr("127.0.0.1")
	serve(t, nil, "tcp", "0.0.0.0:9000")
	serve(t, nil, "udp", "0.0.0.0:9000")
	serve(t, nil, "tcp", "127.0.0.1:9001")
	b.connect(Request{Name: "first", Ports: []Publish{
		{Proto: "tcp", Port: 80, HostPort: 8080}, {Proto: "tcp", Port: 80, HostPort: 8090, HostIP: lo},
	}})
	for _, tc := range []struct {
		p    Publish
		want uint16 // else the error's end
		err  string
	}{
		{Publish{Proto: "tcp", Port: 80, HostPort: 8080}, 0, "Bind for 0.0.0.0:8080 failed: port is already allocated"},
		{Publish{Proto: "tcp", Port: 80, HostPort: 8080, HostIP: lo}, 0, "Bind for 127.0.0.1:8080 failed: port is already allocated"},
		{Publish{Proto: "tcp", Port: 80, HostPort: 8090}, 0, "Bind for 0.0.0.0:8090 failed: port is already allocated"},
		{Publish{Proto: "tcp", Port: 80, HostPort: 8090, HostIP: machine}, 8090, ""},
		{Publish{Proto: "udp", Port: 80, HostPort: 8080}, 8080, ""},
		{Publish{Proto: "tcp", Port: 80, HostPort: 9000}, 0, "failed to bind host port for 0.0.0.0:9000:IP:80/tcp: address already in use"},
		{Publish{Proto: "udp", Port: 80, HostPort: 9000}, 0, "failed to bind host port for 0.0.0.0:9000:IP:80/udp: address already in use"},
		{Publish{Proto: "tcp", Port: 80, HostPort: 9001}, 0, "failed to bind host port for 0.0.0.0:9001:IP:80/tcp: address already in use"},
		{Publish{Proto: "tcp", Port: 80, HostPort: 9001, HostIP: machine}, 9001, ""},
		{Publish{Proto: "tcp", Port: 80, HostPort: 80, HostIP: outside}, 0, "failed to bind host port for 10.99.0.2:80:IP:80/tcp: cannot assign requested address"},
		{Publish{Proto: "tcp", Port: 80, HostPort: 8080, HostPortEnd: 8082}, 8081, ""},
		{Publish{Proto: "tcp", Port: 80, HostPort: 9000, HostPortEnd: 9002}, 9002, ""},
		{Publish{Proto: "tcp", Port: 80, HostPort: 8079, HostPortEnd: 8080, HostIP: all}, 8079, ""},
		{Publish{Proto: "tcp", Port: 80, HostPort: 8080, HostIP: netip.IPv6Unspecified()}, 8080, ""}, // by the gate, to IPv4
		{Publish{Proto: "tcp", Port: 80, HostPort: 9000, HostIP: netip.IPv6Loopback()}, 9000, ""},
		{Publish{Proto: "tcp", Port: 80, HostPort: 8080, Policy: PolicyGate}, 0, "Bind for 0.0.0.0:8080 failed: port is already allocated"},
		{Publish{Proto: "tcp", Port: 80, HostPort: 9000, Policy: PolicyGate}, 0, "failed to bind host port for 0.0.0.0:9000:IP:80/tcp: address already in use"},
		{Publish{Proto: "udp", Port: 80, HostPort: 9000, Policy: PolicyGate}, 0, "failed to bind host port for 0.0.0.0:9000:IP:80/udp: address already in use"},
		{Publish{Proto: "tcp", Port: 80, HostPort: 8080, HostPortEnd: 8082, Policy: PolicyGate}, 8081, ""},
		{Publish{Proto: "icmp", Port: 80}, 0, `invalid protocol "icmp" for port 80`},
		{Publish{Proto: "tcp"}, 0, "invalid container port 0/tcp"},
	} {
		before := len(b.n.ports.held)
		id := ids.New()
		// The good port comes first: it must not stay taken.
		e, err := b.n.Connect(t.Context(), Request{ContainerID: id, Name: "c", Ports: []Publish{{Proto: "tcp", Port: 1, HostPort: 7000}, tc.p}})
		if tc.err != "" {
			if err == nil {
				t.Fatalf("%v: no error", tc.p)
			}
			got := regexp.MustCompile(`172\.17\.\d+\.\d+`).ReplaceAllString(err.Error(), "IP")
			got = regexp.MustCompile(`endpoint c \([0-9a-f]{64}\)`).ReplaceAllString(got, "endpoint c (ID)")
			if want := "driver failed programming external connectivity on endpoint c (ID): " + tc.err; got != want {
				t.Errorf("%v:\n got %s\nwant %s", tc.p, got, want)
			}
			if len(b.n.ports.held) != before {
				t.Errorf("%v: ports stay taken: %v", tc.p, b.n.ports.held)
			}
			continue
		}
		if err != nil {
			t.Errorf("%v: %v", tc.p, err)
			continue
		}
		if got := e.Ports[network.MustParsePort("80/"+tc.p.Proto)]; len(got) != 1 || got[0].HostPort != strconv.Itoa(int(tc.want)) {
			t.Errorf("%v: bound %v, want %d", tc.p, got, tc.want)
		}
		e.NetNS.Close()
		if err := b.n.Release(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	// Nor does a program of the host get a port that is published.
	if l, err := net.Listen("tcp", ":8080"); err == nil {
		l.Close()
		t.Error("a program of the host can listen on a published port")
	}
}

func TestEphemeralPorts(t *testing.T) {
	b := newBench(t, nil)
	seen := map[string]bool{}
	for range 20 {
		c := b.connect(Request{Name: "c", Ports: []Publish{{Proto: "tcp", Port: 80}}})
		p := c.Ports[network.MustParsePort("80/tcp")][0].HostPort
		if n, _ := strconv.Atoi(p); n < int(b.n.ports.first) || n > int(b.n.ports.last) || seen[p] {
			t.Errorf("port %s; given before: %v", p, seen[p])
		}
		seen[p] = true
	}
}

// TestRestart ends the engine with containers running and starts it again.
func TestRestart(t *testing.T) {
	b := newBench(t, nil)
	stays := b.connect(Request{Name: "stays", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8080}, {Proto: "udp", Port: 80}}})
	goes := b.connect(Request{Name: "goes", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8081}}})
	serve(t, stays.NetNS, "tcp", ":80")
	networks := b.n.List()
	gw := b.gateway()
	b.crash()
	goes.NetNS.Close()
	answers(t, "while the engine is away", b.other, "tcp", machine.String()+":8080", outside.String())

	b.start()
	if err := b.n.Restore(t.Context(), map[string]bool{stays.id: true}); err != nil {
		t.Fatal(err)
	}
	if b.gateway() != gw || !reflect.DeepEqual(b.n.List(), networks) {
		t.Errorf("networks changed: %v, before %v", b.n.List(), networks)
	}
	got, ok := b.n.Endpoint(stays.id)
	want := *stays.Endpoint
	want.NetNS = nil
	if !ok || !reflect.DeepEqual(*got, want) {
		t.Errorf("endpoint %+v, before %+v", got, want)
	}
	if _, ok := b.n.Endpoint(goes.id); ok {
		t.Error("the endpoint of a container that ended is still there")
	}
	answers(t, "after the restart", b.other, "tcp", machine.String()+":8080", outside.String())
	_, err := b.n.Connect(t.Context(), Request{ContainerID: "x", Name: "x", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8080}}})
	if err == nil {
		t.Error("the port of a running container was given away")
	}
	_, err = b.n.Connect(t.Context(), Request{ContainerID: "x", Name: "x", IPv4: stays.IPv4.Addr()})
	if err == nil {
		t.Error("the address of a running container was given away")
	}
	again := b.connect(Request{Name: "again", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8081}}})
	serve(t, again.NetNS, "tcp", ":80")
	answers(t, "a port that is free again", b.other, "tcp", machine.String()+":8081", outside.String())
	// The links of the first process are gone, but for the one in use.
	eventually(t, "links of nobody removed", func() error {
		links, err := b.n.rt.Links()
		for _, l := range links {
			r, _ := b.n.first(stays.id)
			if strings.HasPrefix(l.Name, LinkPrefix(b.c.Bridge)) && !strings.HasPrefix(l.Name, b.n.def.pool.prefix) && l.Name != r.Link {
				return fmt.Errorf("%s is still there", l.Name)
			}
		}
		return err
	})
}

// TestSweep holds the namespace of a released container open. A link that looks
// like the engine's, but is a port of another bridge, is another engine's.
func TestSweep(t *testing.T) {
	b := newBench(t, nil)
	held := b.connect(Request{Name: "held"})
	others, rt := LinkPrefix(b.c.Bridge)+"77700000", dial(t)
	defer rt.Close()
	var r netlink.Request
	r.AddBridge("otherbridge", hardware(outside), 1500)
	r.AddVeth(netlink.Veth{Name: others, MTU: 1500, Peer: "otherpeer"})
	if err := rt.Do(&r); err != nil {
		t.Fatal(err)
	}
	bridge, err := rt.Link(0, "otherbridge")
	if err != nil {
		t.Fatal(err)
	}
	r.Reset()
	r.AddPort(0, others, bridge.Index)
	if err := rt.Do(&r); err != nil {
		t.Fatal(err)
	}
	if err := b.n.Release(t.Context(), held.id); err != nil {
		t.Fatal(err)
	}
	b.crash()
	b.start()
	if err := b.n.Restore(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "link removed", func() error {
		return netns.Do(held.NetNS, func() error {
			rt := dial(t)
			defer rt.Close()
			if _, err := rt.Link(0, "eth0"); !errors.Is(err, unix.ENODEV) {
				return fmt.Errorf("eth0: %v", err)
			}
			return nil
		})
	})
	link, err := rt.Link(0, others)
	if err != nil {
		t.Fatalf("the link of another engine: %v", err)
	}
	r.Reset()
	r.DelLink(link.Index)
	r.DelLink(bridge.Index)
	if err := rt.Do(&r); err != nil {
		t.Error(err)
	}
}

// TestRepair removes what the engine made, as an administrator might.
func TestRepair(t *testing.T) {
	b := newBench(t, nil)
	one := b.connect(Request{Name: "one", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8080}}})
	serve(t, one.NetNS, "tcp", ":80")
	answers(t, "before", b.other, "tcp", machine.String()+":8080", outside.String())
	// As another program does: not through the firewall that must notice.
	c, err := nft.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	batch := nft.NewBatch(b.n.wall.table)
	batch.DelTable()
	if err := c.Commit(batch); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the table is made anew", func() error {
		_, err := ask(b.other, "tcp", machine.String()+":8080", patience)
		return err
	})

	bridge, err := b.n.rt.Link(0, b.c.Bridge)
	if err != nil {
		t.Fatal(err)
	}
	if err := delLink(b.n.rt, bridge); err != nil {
		t.Fatal(err)
	}
	two := b.connect(Request{Name: "two"})
	serve(t, two.NetNS, "tcp", ":80")
	eventually(t, "the bridge is made anew", func() error {
		_, err1 := ask(b.other, "tcp", machine.String()+":8080", patience)
		_, err2 := ask(one.NetNS, "tcp", two.IPv4.Addr().String()+":80", patience)
		_, err3 := ask(nil, "tcp", "127.0.0.1:8080", patience)
		return errors.Join(err1, err2, err3)
	})
}

// TestUDPClient has a client that sends from one port all the time, while the
// container behind the published port is replaced.
func TestUDPClient(t *testing.T) {
	b := newBench(t, nil)
	var client *net.UDPConn
	err := netns.Do(b.other, func() (err error) {
		client, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(machine, 8053)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	answered := func() error {
		client.Write([]byte("?")) // an error says that nobody answered the one before
		client.SetReadDeadline(time.Now().Add(need.Patience(50 * time.Millisecond)))
		var buf [100]byte
		_, err := client.Read(buf[:])
		return err
	}
	if answered() == nil {
		t.Fatal("an answer before there is a container")
	}
	for i := range 2 {
		c := b.connect(Request{Name: "c", Ports: []Publish{{Proto: "udp", Port: 53, HostPort: 8053}}})
		serve(t, c.NetNS, "udp", ":53")
		eventually(t, fmt.Sprintf("an answer of container %d", i), answered)
		if err := b.n.Release(t.Context(), c.id); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHostAndNone(t *testing.T) {
	b := newBench(t, nil)
	e, err := b.n.Connect(t.Context(), Request{ContainerID: "h", Name: "h", Network: "host"})
	if err != nil || e.NetNS != nil || e.IPv4.IsValid() || e.NetworkName != "host" {
		t.Errorf("host: %+v, %v", e, err)
	}
	none := b.connect(Request{ContainerID: "n", Name: "n", Network: "none"})
	serve(t, none.NetNS, "tcp", "127.0.0.1:80")
	answers(t, "own loopback", none.NetNS, "tcp", "127.0.0.1:80", "127.0.0.1")
	silent(t, "bridge", none.NetNS, "tcp", b.gateway().String()+":80")
	for name, id := range map[string]string{"host": "h", "none": "n"} {
		in, err := b.n.Inspect(name)
		if err != nil || in.Containers[id].Name != id {
			t.Errorf("Inspect(%s) = %+v, %v", name, in, err)
		}
		if s, err := b.n.Stats(id); err != nil || len(s) != 0 {
			t.Errorf("Stats(%s) = %v, %v", id, s, err)
		}
		if err := errors.Join(b.n.Release(t.Context(), id), b.n.Release(t.Context(), id)); err != nil {
			t.Error(err)
		}
	}
	if _, err := b.n.Connect(t.Context(), Request{ContainerID: "x", Network: "nope"}); !errors.Is(err, errdefs.NotFound) || err.Error() != "network nope not found" {
		t.Errorf("unknown network: %v", err)
	}
}

// TestInside looks at the namespace as the container does.
func TestInside(t *testing.T) {
	b := newBench(t, nil)
	mac := net.HardwareAddr{2, 1, 2, 3, 4, 5}
	c := b.connect(Request{Name: "c", MAC: mac, Sysctls: map[string]string{"net.core.somaxconn": "77", "net.ipv4.conf.eth0.arp_filter": "1"}})
	if !bytes.Equal(c.MAC, mac) {
		t.Errorf("MAC %v", c.MAC)
	}
	d := b.connect(Request{Name: "d"})
	if want := hardware(d.IPv4.Addr()); !bytes.Equal(d.MAC, want) {
		t.Errorf("MAC %v of %v, want %v", d.MAC, d.IPv4, want)
	}
	err := netns.Do(c.NetNS, func() error {
		rt := dial(t)
		defer rt.Close()
		eth0, err := rt.Link(0, "eth0")
		if err != nil || !bytes.Equal(eth0.MAC, mac) || !eth0.Up || eth0.MTU != 1500 || eth0.Kind != "veth" {
			t.Errorf("eth0 = %+v, %v", eth0, err)
		}
		routes, err := rt.Routes()
		if err != nil || !slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Dst.Bits() == 0 && r.Gateway == b.gateway() }) {
			t.Errorf("routes %v, %v", routes, err)
		}
		for name, want := range map[string]string{
			"net/core/somaxconn": "77", "net/ipv4/conf/eth0/arp_filter": "1", "net/ipv4/ip_unprivileged_port_start": "0",
			"net/ipv4/ping_group_range": "0\t2147483647", "net/ipv6/conf/eth0/disable_ipv6": "1", "net/ipv6/conf/lo/disable_ipv6": "0",
		} {
			if got, err := os.ReadFile("/proc/sys/" + name); err != nil || strings.TrimSpace(string(got)) != want {
				t.Errorf("%s = %q, %v; want %q", name, got, err, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for _, name := range []string{"kernel.hostname", "net.nope", "net/../kernel/hostname"} {
		if _, err := b.n.Connect(t.Context(), Request{ContainerID: "x", Sysctls: map[string]string{name: "1"}}); !errors.Is(err, errdefs.Invalid) {
			t.Errorf("sysctl %s: %v", name, err)
		}
	}
	if got := b.n.Containers(); len(got) != 2 {
		t.Errorf("containers %v after refused connections", got)
	}
}

func TestStats(t *testing.T) {
	b := newBench(t, nil)
	c := b.connect(Request{Name: "c"})
	serve(t, c.NetNS, "udp", ":53")
	// Questions of 1000 bytes, answers of less than 100.
	u, err := net.Dial("udp4", c.IPv4.Addr().String()+":53")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for range 10 {
		u.SetDeadline(time.Now().Add(patience))
		if _, err := u.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if _, err := u.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := b.n.Stats(c.id)
	if err != nil {
		t.Fatal(err)
	}
	if e := s["eth0"]; e.RxPackets < 10 || e.TxPackets < 10 || e.RxBytes < 10*1000 || e.TxBytes > 10*1000 {
		t.Errorf("after 10 questions of 1000 bytes and their answers: %+v", s)
	}
	if _, err := b.n.Stats("nope"); !errors.Is(err, errdefs.NotFound) {
		t.Error(err)
	}
}

// TestAddresses exhausts a small subnet and uses it again.
func TestAddresses(t *testing.T) {
	b := newBench(t, func(c *Config) { c.BIP = netip.MustParsePrefix("10.77.0.1/29"); c.PoolSize = -1 })
	var all []*box
	for range 5 {
		all = append(all, b.connect(Request{Name: "c"}))
	}
	_, err := b.n.Connect(t.Context(), Request{ContainerID: "x"})
	if !errors.Is(err, errdefs.Exhausted) {
		t.Errorf("a sixth container in a /29: %v", err)
	}
	if err := b.n.Release(t.Context(), all[2].id); err != nil {
		t.Fatal(err)
	}
	if c := b.connect(Request{Name: "c"}); c.IPv4 != all[2].IPv4 {
		t.Errorf("got %v, free was %v", c.IPv4, all[2].IPv4)
	}
}

// TestAgain gives a container the address that it had, unless somebody else has
// it by now or it is of no subnet of the network.
func TestAgain(t *testing.T) {
	b := newBench(t, func(c *Config) { c.BIP = netip.MustParsePrefix("10.77.0.1/24"); c.PoolSize = -1 })
	first := b.connect(Request{Name: "c"})
	had := []netip.Addr{netip.MustParseAddr("192.0.2.1"), first.IPv4.Addr()}
	if err := b.n.Release(t.Context(), first.id); err != nil {
		t.Fatal(err)
	}
	again := b.connect(Request{Name: "c", Again: had})
	if again.IPv4 != first.IPv4 {
		t.Errorf("got %v, had %v", again.IPv4, first.IPv4)
	}
	if other := b.connect(Request{Name: "d", Again: had}); other.IPv4 == first.IPv4 {
		t.Errorf("%v is given twice", other.IPv4)
	}
}

// TestSubnet checks that the subnet avoids those of the host.
func TestSubnet(t *testing.T) {
	need.Root(t)
	rt := dial(t)
	defer rt.Close()
	var r netlink.Request
	r.AddBridge("ltbusy", hardware(netip.MustParseAddr("172.17.4.1")), 1500)
	if err := rt.Do(&r); err != nil {
		t.Fatal(err)
	}
	l, err := rt.Link(0, "ltbusy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c := dial(t)
		defer c.Close()
		var r netlink.Request
		r.DelLink(l.Index)
		if err := c.Do(&r); err != nil {
			t.Error(err)
		}
	})
	r.Reset()
	r.AddAddr(l.Index, netip.MustParsePrefix("172.17.4.1/24"))
	if err := rt.Do(&r); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, nil)
	if got := b.n.def.v4.address.String(); got != "172.18.0.1/16" {
		t.Errorf("the bridge has %s", got)
	}
}

// TestOwnBridge uses a bridge that the administrator made.
func TestOwnBridge(t *testing.T) {
	need.Root(t)
	rt := dial(t)
	name := fmt.Sprintf("ltown%d", os.Getpid()%100000)
	addrs := []string{"10.44.0.1/24", "10.45.0.1/24"}
	var r netlink.Request
	r.AddBridge(name, hardware(machine), 1400)
	if err := rt.Do(&r); err != nil {
		t.Fatal(err)
	}
	l, err := rt.Link(0, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after Destroy, which must not remove it
		var r netlink.Request
		r.DelLink(l.Index)
		if err := rt.Do(&r); err != nil {
			t.Errorf("the bridge of the administrator: %v", err)
		}
		rt.Close()
	})
	r.Reset()
	for _, a := range addrs {
		r.AddAddr(l.Index, netip.MustParsePrefix(a))
	}
	if err := rt.Do(&r); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, func(c *Config) { c.Bridge = name })
	if b.n.def.v4.address.String() != addrs[0] || b.n.def.mtu != 1400 {
		t.Errorf("address %v, MTU %d", b.n.def.v4.address, b.n.def.mtu)
	}
	got, err := rt.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if !slices.ContainsFunc(got, func(g netlink.Addr) bool { return g.Prefix.String() == a }) {
			t.Errorf("%s is gone: %v", a, got)
		}
	}
	c := b.connect(Request{Name: "c"})
	serve(t, c.NetNS, "tcp", ":80")
	answers(t, "host to container", nil, "tcp", c.IPv4.Addr().String()+":80", "10.44.0.1")

	// Another address for the bridge comes beside those.
	if err := b.n.Release(t.Context(), c.id); err != nil {
		t.Fatal(err)
	}
	b.crash()
	b.c.BIP = netip.MustParsePrefix("10.46.0.1/24")
	b.start()
	if got, err = rt.Addrs(); err != nil {
		t.Fatal(err)
	}
	for a, want := range map[string]bool{addrs[0]: true, addrs[1]: true, "10.46.0.1/24": true} {
		if has := slices.ContainsFunc(got, func(g netlink.Addr) bool { return g.Prefix.String() == a }); has != want {
			t.Errorf("%s on the bridge: %v", a, has)
		}
	}
}

// TestNewAddress changes the address of a bridge that is ours.
func TestNewAddress(t *testing.T) {
	b := newBench(t, func(c *Config) { c.BIP = netip.MustParsePrefix("10.46.0.1/24") })
	b.crash()
	if now := b.inventory(); slices.Contains(now, "table "+tablePrefix+b.c.Bridge) {
		t.Errorf("an engine without containers left its table: %v", now)
	}
	b.c.BIP, b.c.MTU = netip.MustParsePrefix("10.47.0.1/24"), 1400
	b.start()
	bridge, err := b.n.rt.Link(0, b.c.Bridge)
	if err != nil || bridge.MTU != 1400 {
		t.Errorf("bridge %+v, %v", bridge, err)
	}
	addrs, err := b.n.rt.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range addrs {
		if a.Index == bridge.Index {
			got = append(got, a.Prefix.String())
		}
	}
	if !slices.Equal(got, []string{"10.47.0.1/24"}) {
		t.Errorf("addresses %v", got)
	}
	c := b.connect(Request{Name: "c"})
	serve(t, c.NetNS, "tcp", ":80")
	answers(t, "host to container", nil, "tcp", c.IPv4.Addr().String()+":80", "10.47.0.1")
}

func TestInspect(t *testing.T) {
	b := newBench(t, func(c *Config) { c.BIP = netip.MustParsePrefix("172.30.0.1/16") })
	c := b.connect(Request{ContainerID: "c1", Name: "w1"})
	if err := b.n.Rename("c1", "w2"); err != nil {
		t.Fatal(err)
	}
	in, err := b.n.Inspect("bridge")
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	// As recorded from Docker 29, with our ids and a container.
	want := `{"Name":"bridge","Id":"` + c.NetworkID + `","Created":"` + in.Created.Format(time.RFC3339Nano) + `","Scope":"local","Driver":"bridge","EnableIPv4":true,"EnableIPv6":false,` +
		`"IPAM":{"Driver":"default","Options":null,"Config":[{"Subnet":"172.30.0.0/16","Gateway":"172.30.0.1"}]},"Internal":false,"Attachable":false,"Ingress":false,"ConfigFrom":{"Network":""},"ConfigOnly":false,` +
		`"Options":{"com.docker.network.bridge.default_bridge":"true","com.docker.network.bridge.enable_icc":"true","com.docker.network.bridge.enable_ip_masquerade":"true",` +
		`"com.docker.network.bridge.host_binding_ipv4":"0.0.0.0","com.docker.network.bridge.name":"` + b.c.Bridge + `","com.docker.network.driver.mtu":"1500"},"Labels":{},` +
		`"Containers":{"c1":{"Name":"w2","EndpointID":"` + c.EndpointID + `","MacAddress":"02:42:ac:1e:00:02","IPv4Address":"172.30.0.2/16","IPv6Address":""}}}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, name := range []string{in.ID, in.ID[:10], "default", ""} {
		if again, err := b.n.Inspect(name); err != nil || again.ID != in.ID {
			t.Errorf("Inspect(%q) = %v, %v", name, again, err)
		}
	}
	if _, err := b.n.Inspect("nope"); err == nil || err.Error() != "network nope not found" {
		t.Error(err)
	}
}

func TestDisabled(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Disabled = true })
	if _, err := b.n.Connect(t.Context(), Request{ContainerID: "x"}); !errors.Is(err, errdefs.NotFound) {
		t.Errorf("bridge of an engine without: %v", err)
	}
	b.connect(Request{ContainerID: "n", Network: "none"})
	if got := b.n.List(); len(got) != 2 {
		t.Errorf("networks %v", got)
	}
	b.crash()
	b.start()
	if err := b.n.Restore(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// TestTwoEngines checks that engines on one machine do not meet.
func TestTwoEngines(t *testing.T) {
	b := newBench(t, nil)
	c := b.c
	s, err := store.Open(t.TempDir(), c.Logger)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c.Store, c.Bridge = s, c.Bridge+"b"
	n, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	one := b.connect(Request{Name: "one", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8080}}})
	e, err := n.Connect(t.Context(), Request{ContainerID: "two", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8081}}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.NetNS.Close()
	serve(t, one.NetNS, "tcp", ":80")
	serve(t, e.NetNS, "tcp", ":80")
	silent(t, "container to the other engine's", one.NetNS, "tcp", e.IPv4.Addr().String()+":80")
	answers(t, "to the other engine's published port", one.NetNS, "tcp", machine.String()+":8081", "")
	answers(t, "outside to the first", b.other, "tcp", machine.String()+":8080", outside.String())
	answers(t, "outside to the second", b.other, "tcp", machine.String()+":8081", outside.String())
	_, err = n.Connect(t.Context(), Request{ContainerID: "x", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8080}}})
	if err == nil || !strings.HasSuffix(err.Error(), "address already in use") {
		t.Errorf("a port of the other engine: %v", err)
	}
	if err := n.Release(t.Context(), "two"); err != nil {
		t.Error(err)
	}
	answers(t, "outside to the first, still", b.other, "tcp", machine.String()+":8080", outside.String())
}

// TestAgainReached reaches a container that has started again, whose namespace
// of before lives on: it still has something to send.
func TestAgainReached(t *testing.T) {
	b := newBench(t, func(c *Config) { c.BIP = netip.MustParsePrefix("10.77.0.1/24"); c.PoolSize = -1 })
	first := b.connect(Request{Name: "c"})
	serve(t, first.NetNS, "tcp", "0.0.0.0:80") // a socket that stays
	if _, err := ask(nil, "tcp", first.IPv4.Addr().String()+":80", patience); err != nil {
		t.Fatal(err)
	}
	gone := func(x *box, release func() error) {
		t.Helper()
		c, _ := b.n.record(x.id)
		link := c.Endpoints[0].Link
		if err := release(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.n.rt.LinkState(0, link); !errors.Is(err, unix.ENODEV) {
			t.Errorf("%s: %v", link, err)
		}
	}
	gone(first, func() error { return b.n.Release(t.Context(), first.id) })
	again := b.connect(Request{Name: "c", Again: []netip.Addr{first.IPv4.Addr()}})
	if again.IPv4 != first.IPv4 {
		t.Fatalf("got %v, had %v", again.IPv4, first.IPv4)
	}
	serve(t, again.NetNS, "tcp", "0.0.0.0:80")
	if _, err := ask(nil, "tcp", again.IPv4.Addr().String()+":80", 500*time.Millisecond); err != nil {
		t.Error(err)
	}

	// It ends under another process of the engine than it began.
	b.crash()
	b.start()
	if err := b.n.Restore(t.Context(), map[string]bool{again.id: true}); err != nil {
		t.Fatal(err)
	}
	gone(again, func() error { return b.n.Release(t.Context(), again.id) })
}
