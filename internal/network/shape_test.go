package network

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
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
	"lade/internal/linux/tc"
	"lade/internal/need"
	"lade/internal/netrate"
	"lade/internal/store"
)

func asked(in, out netrate.Bits) netrate.Asked {
	return netrate.Asked{NetRateIn: &in, NetRateOut: &out}
}

// A rate counts frames; these are the bytes of one that carry a full segment of
// TCP with time stamps, and the segment.
const frame, segment = 1514, 1448

// tcp measures with iperf3 how fast a container receives from the machine, or
// sends to it: frames, in bits per second, without the first second.
func (x *box) tcp(out bool, seconds int) float64 {
	t := x.b.t
	t.Helper()
	server := exec.Command("iperf3", "--server", "--one-off", "--forceflush", "--bind", x.IPv4.Addr().String())
	server.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	said, err := server.StdoutPipe()
	if err == nil {
		err = netns.Do(x.NetNS, server.Start)
	}
	if err != nil {
		t.Error(err)
		return 0
	}
	defer server.Wait()
	buf := make([]byte, 512)
	for text := ""; !strings.Contains(text, "listening"); {
		n, err := said.Read(buf)
		if err != nil {
			t.Errorf("iperf3: %q, %v", text, err)
			return 0
		}
		text += string(buf[:n])
	}
	args := []string{"--json", "--omit", "1", "--time", fmt.Sprint(seconds), "--client", x.IPv4.Addr().String()}
	if out {
		args = append(args, "--reverse")
	}
	raw, err := exec.CommandContext(t.Context(), "iperf3", args...).CombinedOutput()
	var result struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if jsonErr := json.Unmarshal(raw, &result); err != nil || jsonErr != nil {
		server.Process.Kill()
		t.Errorf("iperf3: %v, %v\n%s", err, jsonErr, raw)
	}
	return result.End.Received.Rate * frame / segment
}

// tries is how often a rate is measured before it counts as wrong. A busy machine
// reads late what came in time, or does not send enough: it spoils one measurement
// or another. A limit that does not hold, or is not there, spoils them all.
const tries = 6

// near checks a rate measured against a limit: no more than it, whatever the
// machine does, and as much as it on a machine at rest (LADE_BENCH=1). One that
// others use may not have the time to send and to receive that much; then half of
// it shows that what limits is the limit, and not another that was meant otherwise.
func (x *box) near(limit netrate.Bits, tolerance float64, out bool, seconds int) {
	x.b.t.Helper()
	least, share := 1-tolerance, 0.0
	if os.Getenv("LADE_BENCH") == "" {
		least = 0.5
	}
	for range tries {
		share = x.tcp(out, seconds) / float64(limit)
		if share > least && share < 1+tolerance {
			break
		}
	}
	x.b.t.Logf("out=%v at %s: %.2f %%", out, limit, 100*share)
	if share < least || share > 1+tolerance {
		x.b.t.Errorf("out=%v at %s: %.2f %%", out, limit, 100*share)
	}
}

// TestRates measures TCP in both directions.
func TestRates(t *testing.T) {
	b := newBench(t, nil)
	need.Program(t, "iperf3", "Debian's iperf3")
	var wg sync.WaitGroup
	for _, limit := range []netrate.Bits{1e6, 1e7, 1e8} {
		for _, out := range []bool{false, true} {
			x := b.connect(Request{Rates: asked(limit, limit)})
			wg.Go(func() { x.near(limit, 0.02, out, 3) })
		}
	}
	wg.Wait()
	const fast = netrate.Bits(1e9)
	x := b.connect(Request{Rates: asked(fast, fast)})
	x.near(fast, 0.1, false, 1)
	x.near(fast, 0.1, true, 1)
}

// datagram is what udp sends in each packet, and what its frame counts.
const datagram, datagramFrame = 1400, 1400 + 8 + 20 + 14

const flood = 600 * time.Millisecond

// udp sends datagrams from the machine to a container, or back, as fast as it
// can, and returns how many bytes of frames arrived in the first tenth of a
// second, and in all of flood.
func (x *box) udp(out bool) (first, all float64) {
	t := x.b.t
	t.Helper()
	var from, to *os.File
	addr := x.b.gateway()
	if out {
		from = x.NetNS
	} else {
		to, addr = x.NetNS, x.IPv4.Addr()
	}
	var server *net.UDPConn
	err := in(to, func() (err error) {
		server, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	var client net.Conn
	if err := in(from, func() (err error) {
		client, err = net.Dial("udp4", server.LocalAddr().String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer client.Close()
	wg.Go(func() {
		buf := make([]byte, datagram)
		for {
			// Sent so that a limit up to 100 Mbit/s is exceeded many times over.
			if _, err := client.Write(buf); errors.Is(err, net.ErrClosed) {
				return
			}
		}
	})
	buf := make([]byte, 2*datagram)
	start := time.Time{}
	for {
		server.SetReadDeadline(time.Now().Add(3 * time.Second))
		if _, err := server.Read(buf); err != nil {
			return first, all
		}
		if start.IsZero() {
			start = time.Now()
		}
		d := time.Since(start)
		if d > flood {
			return first, all
		}
		if all += datagramFrame; d < 100*time.Millisecond {
			first = all
		}
	}
}

// limited checks what a flood gets through: most of the limit, and no more.
func (x *box) limited(what string, limit netrate.Bits, out bool) {
	x.b.t.Helper()
	burst := float64(bucket(limit, 0, x.b.n.def.mtu).Burst)
	during := func(d time.Duration) float64 { return float64(limit) / 8 * d.Seconds() }
	var wrong error
	for range tries {
		first, all := x.udp(out)
		switch {
		case all < 0.5*during(flood) || all > 1.02*during(flood)+2*burst: // a change fills the bucket
			wrong = fmt.Errorf("%s, out=%v: %.0f bytes in %s at a limit of %s", what, out, all, flood, limit)
		case first > during(100*time.Millisecond)*1.2+2*burst:
			wrong = fmt.Errorf("%s, out=%v: %.0f bytes in the first tenth of a second at a limit of %s", what, out, first, limit)
		default:
			return
		}
	}
	x.b.t.Error(wrong)
}

// both checks both directions at once.
func (x *box) both(what string, in, out netrate.Bits) {
	x.b.t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() { x.limited(what, in, false) })
	x.limited(what, out, true)
	wg.Wait()
}

func (x *box) unlimited(what string, out bool) {
	x.b.t.Helper()
	var all float64
	for range tries {
		if _, all = x.udp(out); all >= 3e7/8*flood.Seconds() {
			return
		}
	}
	x.b.t.Errorf("%s, out=%v: %.0f bytes in %s without limit", what, out, all, flood)
}

// TestLimit changes limits of a connected container.
func TestLimit(t *testing.T) {
	b := newBench(t, nil)
	x, other := b.connect(Request{}), b.connect(Request{})
	limit := func(a netrate.Asked) {
		t.Helper()
		if err := b.n.Limit(t.Context(), x.id, a); err != nil {
			t.Fatal(err)
		}
	}
	limit(asked(2e6, 4e6))
	x.both("limited later", 2e6, 4e6)
	other.unlimited("another container", false)
	other.unlimited("another container", true)
	limit(asked(8e6, 2e6))
	x.both("changed", 8e6, 2e6)
	in, out, err := b.n.Shaping(x.id)
	if err != nil || in == nil || out == nil || in.Rate != 8e6 || out.Rate != 2e6 || in.Overlimits == 0 || out.Overlimits == 0 || in.Burst != leastBurst {
		t.Errorf("shaping %+v, %+v, %v", in, out, err)
	}
	limit(netrate.Limits{In: 8e6, Out: 2e6, Burst: 60_000}.Asked())
	if in, out, err = b.n.Shaping(x.id); err != nil || in == nil || out == nil || in.Rate != 8e6 || in.Burst != 60_000 || out.Burst != 60_000 {
		t.Errorf("with a burst the kernel has %+v, %+v, %v", in, out, err)
	}
	limit(netrate.Limits{}.Asked())
	limit(asked(0, 2e6))
	x.unlimited("one direction", false)
	x.limited("one direction", 2e6, true)
	limit(asked(2e6, 0))
	x.limited("the other direction", 2e6, false)
	x.unlimited("the other direction", true)
	limit(asked(0, 0))
	x.unlimited("limits removed", false)
	x.unlimited("limits removed", true)
	if in, out, err := b.n.Shaping(x.id); in != nil || out != nil || err != nil {
		t.Errorf("shaping %+v, %+v, %v", in, out, err)
	}
	if left := b.ifbs(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	// A namespace that was limited is not used again.
	b.n.Harmless(x.id)
	if x.end() {
		t.Error("the namespace is used again")
	}
	if err := b.n.Limit(t.Context(), x.id, asked(1e6, 0)); errdefs.KindOf(err) != errdefs.NotFound {
		t.Errorf("after the end: %v", err)
	}
}

func (b *bench) ifbs() []string {
	return slices.DeleteFunc(b.inventory(), func(l string) bool { return !strings.HasPrefix(l, ifbKind) })
}

// TestLimitedEnd checks that nothing remains of a limited container.
func TestLimitedEnd(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Limits = netrate.Limits{In: 5e6, Out: 5e6} })
	x := b.connect(Request{})
	x.both("by the network's default", 5e6, 5e6)
	free := b.connect(Request{Rates: asked(0, 0)})
	free.unlimited("against the network's default", false)
	free.unlimited("against the network's default", true)
	if n := len(b.ifbs()); n != 1 {
		t.Errorf("%d ifbs for one limited container", n)
	}
	if n, err := b.n.Inspect("bridge"); err != nil || n.Options[netrate.InName] != "5mbit" || n.Options[netrate.OutName] != "5mbit" {
		t.Errorf("%v, %v", n.Options, err)
	}
	x.end()
	eventually(t, "no ifb", func() error {
		if left := b.ifbs(); len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
}

// TestEvade tries all that a process with every right in its namespace can do.
func TestEvade(t *testing.T) {
	b := newBench(t, nil)
	x := b.connect(Request{Rates: asked(3e6, 3e6)})
	conn := func() (c *netlink.Conn, eth0 int) {
		t.Helper()
		if err := in(x.NetNS, func() error { c = dial(t); return nil }); err != nil {
			t.Fatal(err)
		}
		l, err := c.Link(0, inside)
		if err != nil {
			t.Fatal(err)
		}
		return c, l.Index
	}
	c, eth0 := conn()
	defer c.Close()
	for _, try := range []func(*netlink.Request){
		func(r *netlink.Request) { tc.DelRoot(r, eth0) },
		func(r *netlink.Request) { tc.DelIngress(r, eth0) },
		func(r *netlink.Request) { tc.ReplaceTBF(r, eth0, tc.TBF{Rate: 1e9, Burst: 1e6, Limit: 1e6}) },
		func(r *netlink.Request) { r.SetMTU(eth0, 9000) },
		func(r *netlink.Request) { r.AddIFB("own"); r.SetUp(0, "own") },
		func(r *netlink.Request) { tc.AddIngress(r, eth0) },
	} {
		var r netlink.Request
		try(&r)
		if err := c.Do(&r); err != nil {
			t.Logf("refused: %v", err)
		}
	}
	own, err := c.Link(0, "own")
	if err != nil {
		t.Fatal(err)
	}
	var r netlink.Request
	tc.Redirect(&r, eth0, own.Index)
	if err := c.Do(&r); err != nil {
		t.Fatal(err)
	}
	x.limited("after changes inside", 3e6, false)
	r.Reset()
	tc.DelIngress(&r, eth0)
	r.SetMTU(eth0, 1500)
	if err := c.Do(&r); err != nil {
		t.Fatal(err)
	}
	x.both("after changes inside", 3e6, 3e6)

	// Frames of other protocols and with VLAN tags pass the same queue.
	rt := dial(t)
	defer rt.Close()
	rec, _ := b.n.first(x.id)
	ifb, err := rt.Link(0, ifbOf(rec.Link))
	if err != nil {
		t.Fatal(err)
	}
	packets := func() uint32 {
		q, err := tc.Root(rt, ifb.Index)
		if err != nil {
			t.Error(err)
		}
		return q.Packets
	}
	tagged := make([]byte, 1000)
	for i := range 6 {
		tagged[i] = 0xFF // to everybody
	}
	for _, etherType := range []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021AD, unix.ETH_P_ARP, 0x88B5, 100} {
		binary.BigEndian.PutUint16(tagged[12:], etherType)
		before, host := packets(), hostReceived(t, rt, rec.Link)
		if err := in(x.NetNS, func() error { return sendFrames(eth0, tagged, 50) }); err != nil {
			t.Fatal(err)
		}
		if sent := hostReceived(t, rt, rec.Link) - host; sent < 50 {
			t.Errorf("of 50 frames of type %#x %d were sent", etherType, sent)
		}
		eventually(t, fmt.Sprintf("frames of type %#x", etherType), func() error {
			if n := packets() - before; n < 50 {
				return fmt.Errorf("of 50 frames %d passed the ifb", n)
			}
			return nil
		})
	}

	// What five sockets send at once is more than may wait.
	for range 5 {
		if err := in(x.NetNS, func() error { return sendFrames(eth0, tagged, 1000) }); err != nil && !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
	}
	if _, out, err := b.n.Shaping(x.id); err != nil || out.Dropped == 0 || out.Backlog == 0 {
		t.Errorf("shaping after too much: %+v, %v", out, err)
	}
}

func hostReceived(t *testing.T, rt *netlink.Conn, link string) uint64 {
	t.Helper()
	l, err := rt.Link(0, link)
	if err != nil {
		t.Error(err)
	}
	return l.Stats.RxPackets
}

// sendFrames sends frames from an interface of the calling thread's namespace,
// without waiting for room.
func sendFrames(index int, frame []byte, n int) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for range n {
		if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: index}); err != nil {
			return err
		}
	}
	return nil
}

// TestLimitRestart checks that limits outlive the engine, and that the next one
// corrects what a crash between kernel and record left.
func TestLimitRestart(t *testing.T) {
	b := newBench(t, nil)
	x := b.connect(Request{Rates: asked(3e6, 4e6)})
	cut, gone := b.connect(Request{}), b.connect(Request{Rates: asked(3e6, 3e6)})
	// The kernel had the limits, the record did not yet.
	r, _ := b.n.first(cut.id)
	if err := b.n.shaper.set(r, netrate.Limits{In: 1e6, Out: 1e6}); err != nil {
		t.Fatal(err)
	}
	live := map[string]bool{x.id: true, cut.id: true}
	b.crash()
	if n := len(b.ifbs()); n != 3 {
		t.Errorf("%d ifbs without an engine", n)
	}
	b.filters(6)
	gone.NetNS.Close()
	b.start()
	if err := b.n.Restore(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	if got, ok := b.n.Endpoint(x.id); !ok || got.Limits != (netrate.Limits{In: 3e6, Out: 4e6}) {
		t.Errorf("limits after a restart: %+v", got)
	}
	x.both("after a restart", 3e6, 4e6)
	eventually(t, "one ifb", func() error {
		if left := b.ifbs(); len(left) != 1 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
	cut.unlimited("cut off", false)
	cut.unlimited("cut off", true)
	if err := b.n.Limit(t.Context(), x.id, asked(6e6, 6e6)); err != nil {
		t.Fatal(err)
	}
	x.both("changed after a restart", 6e6, 6e6)

	// The kernel had lost the redirection, the record says otherwise.
	r, _ = b.n.first(x.id)
	b.crash()
	rt := dial(t)
	defer rt.Close()
	host, err := rt.Link(0, r.Link)
	if err != nil {
		t.Fatal(err)
	}
	var q netlink.Request
	tc.DelIngress(&q, host.Index)
	tc.DelRoot(&q, host.Index)
	if err := rt.Do(&q); err != nil {
		t.Fatal(err)
	}
	b.start()
	if err := b.n.Restore(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	eventually(t, "limited again", func() error {
		l, err := rt.Link(0, r.Link)
		if err == nil && l.Qdisc != "tbf" {
			err = errors.New(l.Qdisc)
		}
		return err
	})
	x.both("repaired", 6e6, 6e6)
}

// filters checks how many token bucket filters there are.
func (b *bench) filters(want int) {
	b.t.Helper()
	rt := dial(b.t)
	defer rt.Close()
	links, err := rt.Links()
	if err != nil {
		b.t.Fatal(err)
	}
	if n := len(slices.DeleteFunc(links, func(l netlink.Link) bool { return l.Qdisc != "tbf" })); n != want {
		b.t.Errorf("%d token bucket filters, not %d", n, want)
	}
}

// TestLimitsRefused checks the errors of limits that cannot be.
func TestLimitsRefused(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Limits = netrate.Limits{In: 5e6} })
	burst := int64(1000)
	for _, x := range []struct {
		network string
		a       netrate.Asked
		want    string
	}{
		{"host", asked(1e6, 0), "conflicting options: network rates and the host network mode, where a container has no interface of its own"},
		{"none", asked(0, 1e6), "conflicting options: network rates and the none network mode, where a container has no interface of its own"},
		{"bridge", netrate.Asked{NetBurst: &burst}, "invalid network burst 1000: it must be between 1518 bytes, a full packet, and 4 GB, or 0 for one that fits the rate"},
		{"nosuch", asked(1e6, 0), "network nosuch not found"},
	} {
		if _, err := b.n.Limits(x.network, x.a); err == nil || err.Error() != x.want {
			t.Errorf("%s: %v", x.network, err)
		}
		if e, err := b.n.Connect(t.Context(), Request{ContainerID: "x", Network: x.network, Rates: x.a}); err == nil {
			t.Errorf("%s: connected, %+v", x.network, e)
		}
	}
	if l, err := b.n.Limits("host", asked(0, 0)); err != nil || l.Any() {
		t.Errorf("no rate on host: %v, %v", l, err)
	}
	if l, err := b.n.Limits(network.NetworkNone, netrate.Asked{}); err != nil || l.Any() {
		t.Errorf("none has no default: %v, %v", l, err)
	}
	s, err := store.Open(t.TempDir(), b.c.Logger)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b.crash()
	defer b.start()
	bad := b.c
	bad.Store, bad.Limits.Burst = s, 3
	if n, err := New(t.Context(), bad); errdefs.KindOf(err) != errdefs.Invalid {
		t.Errorf("a default burst of 3 bytes: %v, %v", n, err)
	}
}
