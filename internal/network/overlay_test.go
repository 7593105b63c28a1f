package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/linux/xfrm"
	"lade/internal/need"
	"lade/internal/network/overlay"
)

// witness makes the other host one of an overlay network, by the kernel's means
// alone, with an address on the device itself.
func (b *bench) witness(vni uint32, port uint16, local, peer netip.Addr, ip netip.Prefix) {
	b.t.Helper()
	err := netns.Do(b.other, func() error {
		c := dial(b.t)
		defer c.Close()
		var r netlink.Request
		r.AddVXLAN("wide", 1450, netlink.VXLAN{VNI: vni, Port: port, Local: local})
		if err := c.Do(&r); err != nil {
			return err
		}
		l, err := c.Link(0, "wide")
		if err != nil {
			return err
		}
		r.Reset()
		r.SetUp(l.Index, "")
		r.AddAddr(l.Index, ip)
		r.SetForward(l.Index, netlink.Forward{MAC: make([]byte, 6), To: peer})
		return c.Do(&r)
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// capture counts what passes the other host's uplink.
type capture struct {
	mu   sync.Mutex
	seen map[string]int // by what classify says
}

func (b *bench) capture(vni uint32) *capture {
	b.t.Helper()
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8 // network byte order
	c := &capture{seen: map[string]int{}}
	var fd int
	err := netns.Do(b.other, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
		if err != nil {
			return err
		}
		l, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Index})
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		b.t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "capture")
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 1<<16)
		for {
			n, err := f.Read(buf)
			if err != nil {
				return
			}
			c.mu.Lock()
			c.seen[classify(buf[:n], vni)]++
			c.mu.Unlock()
		}
	})
	b.t.Cleanup(func() { f.Close(); wg.Wait() })
	return c
}

func (c *capture) counts() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]int{}
	for k, v := range c.seen {
		out[k] = v
	}
	return out
}

// classify says what an Ethernet frame carries.
func classify(b []byte, vni uint32) string {
	if len(b) < 34 || binary.BigEndian.Uint16(b[12:]) != unix.ETH_P_IP {
		return "other" // ARP, IPv6
	}
	ip := b[14:]
	next := ip[int(ip[0]&15)*4:]
	switch {
	case ip[9] == unix.IPPROTO_ESP:
		return "esp"
	case ip[9] == unix.IPPROTO_UDP && len(next) >= 16 && binary.BigEndian.Uint32(next[12:])>>8 == vni && next[8] == 8:
		return "vxlan"
	}
	if ip[9] == unix.IPPROTO_TCP || ip[9] == unix.IPPROTO_UDP || ip[9] == unix.IPPROTO_ICMP {
		return "plain"
	}
	return "other" // IGMP, as links come up
}

const wide = "10.70.0.0/24"

// acrossRequest returns a request for an overlay network of machine and outside.
func acrossRequest(name string, options ...string) network.CreateRequest {
	q := network.CreateRequest{Name: name, Driver: "overlay", IPAM: subnet(wide), Options: map[string]string{"peers": machine.String() + "," + outside.String()}}
	for _, o := range options {
		k, v, _ := strings.Cut(o, "=")
		q.Options[k] = v
	}
	return q
}

// TestOverlay exchanges packets with another host that is set up by hand, looks
// at them on the wire, and goes on while the engine dies and starts again.
func TestOverlay(t *testing.T) {
	b := newBench(t, nil)
	id := b.create(acrossRequest("wide", "vni=77"))
	b.witness(77, 4789, outside, machine, netip.MustParsePrefix("10.70.0.129/24"))
	wire := b.capture(77)
	one := b.connect(Request{Name: "one", Network: "wide"})
	if got := one.IPv4.String() + " " + one.Gateway.String() + " " + one.Driver; got != "10.70.0.2/24 10.70.0.1 overlay" {
		t.Errorf("endpoint: %s", got)
	}
	serve(t, one.NetNS, "tcp", ":80")
	serve(t, b.other, "tcp", ":80")
	reaches(t, "container to another host's", one.NetNS, "tcp", "10.70.0.129:80", "10.70.0.2")
	reaches(t, "another host's to a container", b.other, "tcp", "10.70.0.2:80", "10.70.0.129")
	reaches(t, "this host to another host's container", nil, "tcp", "10.70.0.129:80", "10.70.0.1")
	need.Eventually(t, "ten packets on the wire", func() bool { return wire.counts()["vxlan"] >= 10 })
	if seen := wire.counts(); seen["plain"] > 0 {
		t.Errorf("on the wire: %v", seen)
	}
	reaches(t, "container to the underlay", one.NetNS, "tcp", outside.String()+":80", machine.String())
	b.fullSized(one, "10.70.0.129")

	// A connection outlives the engine, and so does the device.
	before, err := b.n.rt.Link(0, overlay.DeviceName(id))
	if err != nil {
		t.Fatal(err)
	}
	say := b.conversation(one.NetNS, "10.70.0.129")
	b.crash()
	if err := say(); err != nil {
		t.Errorf("without the engine: %v", err)
	}
	b.start()
	if err := b.n.Restore(t.Context(), map[string]bool{one.id: true}); err != nil {
		t.Fatal(err)
	}
	if err := say(); err != nil {
		t.Errorf("after the engine's start: %v", err)
	}
	after, err := b.n.rt.Link(0, overlay.DeviceName(id))
	if err != nil || after.Index != before.Index {
		t.Errorf("the device is another one: %d, %d, %v", before.Index, after.Index, err)
	}
	two := b.connect(Request{Name: "two", Network: "wide"})
	if two.IPv4.Addr().String() == one.IPv4.Addr().String() {
		t.Error("an address twice")
	}
	reaches(t, "a new container to another host's", two.NetNS, "tcp", "10.70.0.129:80", two.IPv4.Addr().String())

	// Only this host's own part is its to give.
	_, err = b.n.Connect(t.Context(), Request{ContainerID: "x", Network: "wide", IPv4: netip.MustParseAddr("10.70.0.200")})
	if !errors.Is(err, errdefs.Invalid) || !strings.Contains(err.Error(), "another host's to give: this host has 10.70.0.0/25") {
		t.Errorf("an address of another host: %v", err)
	}
	b.forge(one, 77)

	// What somebody removes comes back.
	for _, name := range []string{overlay.DeviceName(id), b.n.bridge("wide").link} {
		l, err := b.n.rt.Link(0, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := delLink(b.n.rt, l); err != nil {
			t.Fatal(err)
		}
		eventually(t, "after "+name+" was removed", func() error {
			_, err := ask(one.NetNS, "tcp", "10.70.0.129:80", patience)
			return err
		})
	}
}

// fullSized sends a datagram as large as the network takes, which must arrive in
// one piece; a larger one must not be sent.
func (b *bench) fullSized(x *box, to string) {
	b.t.Helper()
	got := make(chan int, 1)
	var l net.PacketConn
	err := netns.Do(b.other, func() (err error) { l, err = net.ListenPacket("udp4", ":9"); return err })
	if err != nil {
		b.t.Fatal(err)
	}
	defer l.Close()
	go func() {
		buf := make([]byte, 1<<16)
		n, _, _ := l.ReadFrom(buf)
		got <- n
	}()
	err = netns.Do(x.NetNS, func() error {
		c, err := net.Dial("udp4", to+":9")
		if err != nil {
			return err
		}
		defer c.Close()
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err != nil {
			return err
		}
		err = raw.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		})
		if err != nil {
			return err
		}
		if _, err := c.Write(make([]byte, 1450-28+1)); !errors.Is(err, unix.EMSGSIZE) {
			return fmt.Errorf("a packet of 1451 bytes: %v", err)
		}
		_, err = c.Write(make([]byte, 1450-28))
		return err
	})
	if err != nil {
		b.t.Error(err)
		return
	}
	if n := <-got; n != 1450-28 {
		b.t.Errorf("a datagram of %d bytes arrived", n)
	}
}

// conversation opens a connection between a namespace and the other host, and
// returns what says something on it and waits for the echo.
func (b *bench) conversation(ns *os.File, to string) (say func() error) {
	b.t.Helper()
	err := netns.Do(b.other, func() error {
		l, err := net.Listen("tcp4", ":7")
		if err != nil {
			return err
		}
		b.t.Cleanup(func() { l.Close() })
		go func() {
			if c, err := l.Accept(); err == nil {
				io.Copy(c, c)
				c.Close()
			}
		}()
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	var c net.Conn
	if err := in(ns, func() (err error) { c, err = net.DialTimeout("tcp4", to+":7", patience); return err }); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return func() error {
		c.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 5))
		return err
	}
}

// forge sends frames of the overlay network from within a container, to this host
// and to the other one, which must not take them; from the other host itself they
// are taken.
func (b *bench) forge(x *box, vni uint32) {
	b.t.Helper()
	// A datagram for UDP port 99 of all hosts of the network, in a frame for all.
	frame := make([]byte, 8+14+20+8+6)
	frame[0] = 8
	binary.BigEndian.PutUint32(frame[4:], vni<<8)
	for i := range 6 {
		frame[8+i] = 0xff
	}
	frame[14] = 2
	binary.BigEndian.PutUint16(frame[20:], unix.ETH_P_IP)
	ip := frame[22:42]
	ip[0], ip[8], ip[9] = 0x45, 9, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(ip[2:], 34)
	copy(ip[12:], []byte{10, 70, 0, 99, 255, 255, 255, 255})
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum>>16+sum&0xffff))
	binary.BigEndian.PutUint16(frame[44:], 99)
	binary.BigEndian.PutUint16(frame[46:], 14)

	listen := func(ns *os.File) chan string {
		var l net.PacketConn
		if err := in(ns, func() (err error) { l, err = net.ListenPacket("udp4", "0.0.0.0:99"); return err }); err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() { l.Close() })
		got := make(chan string, 100)
		go func() {
			buf := make([]byte, 100)
			for {
				n, _, err := l.ReadFrom(buf)
				if err != nil {
					return
				}
				got <- string(buf[:n])
			}
		}()
		return got
	}
	here, there := listen(nil), listen(b.other)
	send := func(ns *os.File, mark string, to ...netip.Addr) {
		copy(frame[len(frame)-6:], mark)
		err := in(ns, func() error {
			for _, a := range to {
				c, err := net.Dial("udp4", netip.AddrPortFrom(a, 4789).String())
				if err != nil {
					return err
				}
				defer c.Close()
				if _, err := c.Write(frame); err != nil && !errors.Is(err, unix.EPERM) {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
	send(x.NetNS, "forged", machine, outside, x.Gateway)
	send(b.other, "honest", machine)
	send(nil, "honest", outside)
	for where, got := range map[string]chan string{"here": here, "there": there} {
		select { // in order: what was sent first would have come first
		case mark := <-got:
			if mark != "honest" {
				b.t.Errorf("%s: a container's frame is taken for one of another host", where)
			}
		case <-time.After(30 * time.Second):
			b.t.Errorf("%s: nothing arrived", where)
		}
	}
}

// TestOverlayPeers finds peers by a name, which come and go, also while the
// engine is away.
func TestOverlayPeers(t *testing.T) {
	var mu sync.Mutex
	hosts, fails := []netip.Addr{machine}, error(nil)
	set := func(err error, all ...netip.Addr) {
		mu.Lock()
		defer mu.Unlock()
		hosts, fails = all, err
	}
	b := newBench(t, func(c *Config) {
		c.LookupEvery = 10 * time.Millisecond
		c.Lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
			mu.Lock()
			defer mu.Unlock()
			if host != "tasks.example" {
				return nil, fmt.Errorf("lookup %s: no such host", host)
			}
			return slices.Clone(hosts), fails
		}
	})
	q := acrossRequest("wide", "peers=tasks.example", "vni=78", "slices=16")
	b.create(q)
	one := b.connect(Request{Name: "one", Network: "wide"})
	if got := one.IPv4.String(); got != "10.70.0.17/24" { // part 1 of 16, whose first address is the bridge's
		t.Errorf("address %s", got)
	}
	b.witness(78, 4789, outside, machine, netip.MustParsePrefix("10.70.0.33/24"))
	serve(t, b.other, "udp", ":80")
	reach := func() error {
		_, err := ask(one.NetNS, "udp", "10.70.0.33:80", silence)
		return err
	}
	unreach := func() error {
		if reach() == nil {
			return errors.New("it can be reached")
		}
		return nil
	}
	eventually(t, "before it is a peer", unreach)
	set(nil, machine, outside)
	eventually(t, "a peer came", reach)
	set(errors.New("server misbehaving"))
	b.crash()
	b.start() // while nobody can say who the peers are
	if err := b.n.Restore(t.Context(), map[string]bool{one.id: true}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "after a start without a name server", reach)
	set(nil, machine)
	eventually(t, "a peer went", unreach)
	set(nil, machine, outside)
	eventually(t, "a peer came again", reach)
}

// TestOverlayRefused checks the words of refusals, and that nothing is left of
// them.
func TestOverlayRefused(t *testing.T) {
	b := newBench(t, func(c *Config) {
		c.Lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
	})
	foreign := netlink.VXLAN{VNI: 5, Port: 4789, Local: machine}
	var r netlink.Request
	r.AddVXLAN("foreign", 1450, foreign)
	if err := b.n.rt.Do(&r); err != nil {
		t.Fatal(err)
	}
	taken, err := net.ListenPacket("udp4", ":4799")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	b.create(acrossRequest("first", "vni=9"))
	inventory := func() []string { // without what the pool is making
		return slices.DeleteFunc(b.inventory(), func(s string) bool { return strings.HasPrefix(s, linkKind) })
	}
	before := inventory()
	with := func(q network.CreateRequest, change func(*network.CreateRequest)) network.CreateRequest {
		change(&q)
		return q
	}
	other := func(options ...string) network.CreateRequest {
		q := acrossRequest("second", options...)
		q.IPAM = subnet("10.71.0.0/24")
		return q
	}
	for _, tc := range []struct {
		q    network.CreateRequest
		kind errdefs.Kind
		want string
	}{
		{other("vni=9"), errdefs.Conflict, "VNI 9 is that of network first"},
		{other("vni=5"), errdefs.Conflict, "VNI 5 is another VXLAN device's on UDP port 4789"},
		{other("port=4799"), errdefs.Conflict, "UDP port 4799 is another program's"},
		{other("peers=nobody.example"), errdefs.Invalid, "nobody.example: no such host"},
		{other("peers=10.99.0.2"), errdefs.Invalid, "none of the peers 10.99.0.2 is this host"},
		{other("peers=10.99.0.2", "local=10.99.0.1"), errdefs.Invalid, "its place among them is not known"},
		{other("slices=128"), errdefs.Invalid, "is too small for 128 hosts"},
		{other("bridges=10.71.0.1,10.72.0.1"), errdefs.Invalid, "10.72.0.1 is in no subnet of the network"},
		{other("bridges=10.71.0.129"), errdefs.Invalid, "this host's address 10.71.0.1 is missing"},
		{other("encrypted"), errdefs.Invalid, "needs a key"},
		{other("speed=high"), errdefs.Invalid, "no such option of an overlay network"},
		{other("com.docker.network.bridge.enable_icc=false"), errdefs.Invalid, "no such option of an overlay network"},
		{other("com.docker.network.driver.mtu=7"), errdefs.Invalid, "not between 68 and 65535"},
		{with(other(), func(q *network.CreateRequest) { q.IPAM = nil }), errdefs.Invalid, "needs --subnet"},
		{with(other(), func(q *network.CreateRequest) { q.IPAM.Config[0].Gateway = netip.MustParseAddr("10.71.0.200") }), errdefs.Invalid, "this host has the addresses of 10.71.0.0/25"},
		{with(other(), func(q *network.CreateRequest) { q.Options = nil }), errdefs.Invalid, "needs its hosts"},
	} {
		if _, err := b.n.Create(t.Context(), tc.q); errdefs.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v:\n got %v\nwant %s", tc.q.Options, err, tc.want)
		}
	}
	eventually(t, "nothing is left of refused networks", func() error {
		if now := inventory(); !slices.Equal(now, before) {
			return fmt.Errorf("before %v, now %v", before, now)
		}
		return nil
	})
	l, err := b.n.rt.Link(0, "foreign")
	if err == nil {
		err = delLink(b.n.rt, l)
	}
	if err != nil {
		t.Error(err)
	}
	if err := b.n.Remove(t.Context(), "first"); err != nil {
		t.Error(err)
	}
	if left := slices.DeleteFunc(b.inventory(), func(s string) bool { return !strings.HasPrefix(s, "vx-") }); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// soundAcross checks that each overlay network has its device, in its bridge and
// with its peer, and that there is no other.
func (b *bench) soundAcross(links []netlink.Link) {
	b.t.Helper()
	devices := map[string]netlink.Link{}
	for _, l := range links {
		if l.Kind == "vxlan" {
			devices[l.Name] = l
		}
	}
	for _, br := range b.n.allBridges() {
		if br.across == nil {
			continue
		}
		l, ok := devices[br.across.device]
		delete(devices, br.across.device)
		forwards, err := b.n.rt.Forwards(l.Index)
		if !ok || err != nil || len(forwards) != 1 || forwards[0].To != outside {
			b.t.Errorf("network %s: device %v, peers %v, %v", br.network, l.Name, forwards, err)
		}
		if master, err := b.n.rt.LinkState(l.Master, ""); err != nil || master.Name != br.link {
			b.t.Errorf("network %s: the device is in %s, %v", br.network, master.Name, err)
		}
	}
	for name := range devices {
		b.t.Errorf("device %s belongs to no network", name)
	}
}

// hasESP reports whether the kernel can encrypt.
func hasESP(t *testing.T) (yes bool) {
	t.Helper()
	ns, err := netns.New(func(*os.File) error {
		c, err := xfrm.Dial()
		if err != nil {
			return nil
		}
		defer c.Close()
		yes = c.AddState(xfrm.State{Src: machine, Dst: outside, SPI: 300, ReqID: 1}) == nil
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Close()
	return yes
}

// TestOverlayEncrypted sees nothing but ESP on the wire, and what comes in the
// clear is not taken; on a kernel without ESP the network is refused, and nothing
// is left of it.
func TestOverlayEncrypted(t *testing.T) {
	b := newBench(t, nil)
	file := t.TempDir() + "/key"
	write := func(key string, mode os.FileMode) {
		if err := errors.Join(os.WriteFile(file, []byte(key), mode), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
	}
	q := acrossRequest("wide", "vni=79", "encrypted", "key="+file)
	refused := func(kind errdefs.Kind, want string) {
		t.Helper()
		if _, err := b.n.Create(t.Context(), q); errdefs.KindOf(err) != kind || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
		b.clear()
	}
	refused(errdefs.Invalid, "no such file")
	write("0123456789abcdef0123456789abcdef\n", 0o644)
	refused(errdefs.Invalid, "may be read by others")
	write("short\n", 0o600)
	refused(errdefs.Invalid, "has 5 bytes, want 16 to 4096")
	write("0123456789abcdef0123456789abcdef\n", 0o600)
	if !hasESP(t) {
		refused(errdefs.NotImplemented, "the kernel cannot encrypt an overlay network")
		return
	}
	b.create(q)
	key, err := overlay.ReadKey(file)
	if err != nil {
		t.Fatal(err)
	}
	there := overlay.Config{Local: outside, Port: overlay.EncryptedPort}
	err = netns.Do(b.other, func() error {
		c, err := xfrm.Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		for _, p := range there.Policies() {
			err = errors.Join(err, c.SetPolicy(p))
		}
		both, err2 := there.States(key, machine)
		for _, s := range both {
			err = errors.Join(err, c.AddState(s))
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Fatal(err)
	}
	b.witness(79, overlay.EncryptedPort, outside, machine, netip.MustParsePrefix("10.70.0.129/24"))
	wire := b.capture(79)
	one := b.connect(Request{Name: "one", Network: "wide"})
	serve(t, one.NetNS, "tcp", ":80")
	serve(t, b.other, "tcp", ":80")
	reaches(t, "container to another host's", one.NetNS, "tcp", "10.70.0.129:80", "10.70.0.2")
	reaches(t, "another host's to a container", b.other, "tcp", "10.70.0.2:80", "10.70.0.129")
	b.crash()
	b.start()
	if err := b.n.Restore(t.Context(), map[string]bool{one.id: true}); err != nil {
		t.Fatal(err)
	}
	reaches(t, "after a start", one.NetNS, "tcp", "10.70.0.129:80", "10.70.0.2")
	need.Eventually(t, "ten packets on the wire", func() bool { return wire.counts()["esp"] >= 10 })
	if seen := wire.counts(); seen["vxlan"]+seen["plain"] > 0 {
		t.Errorf("on the wire: %v", seen)
	}
	err = netns.Do(b.other, func() error { // the other host forgets to encrypt
		c, err := xfrm.Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		return errors.Join(c.DelPolicy(there.Policies()[1]), c.DelPolicy(there.Policies()[0]))
	})
	if err != nil {
		t.Fatal(err)
	}
	silent(t, "in the clear", b.other, "tcp", "10.70.0.2:80")
	// Else nothing was shown.
	need.Eventually(t, "something goes in the clear", func() bool { return wire.counts()["vxlan"] > 0 })
	if err := b.n.Release(t.Context(), one.id); err != nil {
		t.Error(err)
	}
	if err := b.n.Remove(t.Context(), "wide"); err != nil {
		t.Error(err)
	}
	b.clear()
}

// clear checks that nothing is encrypted, and no device is there.
func (b *bench) clear() {
	b.t.Helper()
	c, err := xfrm.Dial()
	if err != nil {
		return // the kernel cannot
	}
	defer c.Close()
	policies, err1 := c.Policies()
	states, err2 := c.States(overlay.ReqID(overlay.EncryptedPort))
	if err1 != nil || err2 != nil || len(policies)+len(states) > 0 {
		b.t.Errorf("left: %v, %v, %v, %v", policies, states, err1, err2)
	}
	for _, l := range b.inventory() {
		if strings.HasPrefix(l, "vx-") || strings.HasPrefix(l, "br-") {
			b.t.Errorf("left: %s", l)
		}
	}
}

// reaches is answers for a way that begins to work in its own time: links that
// others make, and hosts that do not know each other yet.
func reaches(t testing.TB, what string, ns *os.File, proto, addr, from string) {
	t.Helper()
	eventually(t, what, func() error {
		got, err := ask(ns, proto, addr, patience)
		if err == nil && got != from {
			err = fmt.Errorf("the server saw %s, want %s", got, from)
		}
		return err
	})
}
