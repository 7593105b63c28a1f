package bench

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/need"
	"lade/test/harness"
)

// rounds are how often ways are compared, in turn.
const rounds = 22

// speed is how much happened in a second, and in a second of this process's
// processor time: both ends are in this process, and what the kernel does between
// them is counted to it. All of these ways keep a processor busy, so at rest the
// two say the same, and the second still does when others have the processor, too.
type speed struct{ wall, cpu float64 }

// since divides by the time since a moment.
func since(n float64, begin time.Time, used time.Duration) speed {
	return speed{n / time.Since(begin).Seconds(), n / (processor() - used).Seconds()}
}

// processor is the processor time of this process.
func processor() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // it cannot fail for oneself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// ratio fails the test when a way gets less done than a share of another one. What
// counts is the median of the rounds' ratios: the two of one round had the same
// machine beside them.
func ratio(t *testing.T, what string, got, than []speed, least float64, unit string) {
	t.Helper()
	note(t, what, fastest(got), unit)
	note(t, "  compared with", fastest(than), unit)
	limit(t, "  processor time for as much, as a ratio", work(got, than), 1/least, "")
}

// work is how much more processor time a way takes for as much as another one.
func work(got, than []speed) float64 {
	var of []float64
	for i := range got {
		of = append(of, than[i].cpu/got[i].cpu)
	}
	slices.Sort(of)
	return of[len(of)/2]
}

// fastest is the best that there was: what else the machine does can only slow a
// way down.
func fastest(all []speed) (most float64) {
	for _, s := range all {
		most = max(most, s.wall)
	}
	return most
}

// byHand is a bridge with two namespaces, as simple as can be: what no engine can
// be faster than.
type byHand struct {
	one, two *os.File
	addr     netip.Addr // of two
}

func makeByHand(t *testing.T) *byHand {
	t.Helper()
	const bridge = "lbench"
	rt, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	var r netlink.Request
	r.AddBridge(bridge, net.HardwareAddr{2, 0x42, 198, 19, 251, 1}, 1500)
	if err := rt.Do(&r); err != nil {
		t.Fatal(err)
	}
	link, err := rt.Link(0, bridge)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer rt.Close()
		var r netlink.Request
		r.DelLink(link.Index)
		if err := rt.Do(&r); err != nil {
			t.Error(err)
		}
	})
	r.Reset()
	r.AddAddr(link.Index, netip.MustParsePrefix("198.19.251.1/24"))
	r.SetUp(link.Index, "")
	if err := rt.Do(&r); err != nil {
		t.Fatal(err)
	}
	h := &byHand{addr: netip.MustParseAddr("198.19.251.3")}
	for name, ns := range map[string]**os.File{"lbench2": &h.one, "lbench3": &h.two} {
		addr := netip.MustParseAddr("198.19.251." + name[len(name)-1:])
		if *ns, err = netns.New(func(ns *os.File) error { return pair(rt, ns, name, addr, link.Index) }); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*ns).Close() })
	}
	return h
}

// pair connects the namespace of the calling thread with a bridge.
func pair(rt *netlink.Conn, ns *os.File, name string, addr netip.Addr, bridge int) error {
	var r netlink.Request
	r.AddVeth(netlink.Veth{Name: name, MTU: 1500, Peer: "eth0", PeerNS: ns})
	if err := rt.Do(&r); err != nil {
		return err
	}
	in, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer in.Close()
	eth0, err := in.Link(0, "eth0")
	if err != nil {
		return err
	}
	r.Reset()
	r.AddAddr(eth0.Index, netip.PrefixFrom(addr, 24))
	r.SetUp(1, "")
	r.SetUp(eth0.Index, "")
	if err := in.Do(&r); err != nil {
		return err
	}
	r.Reset()
	r.AddPort(0, name, bridge)
	r.SetUp(0, name)
	return rt.Do(&r)
}

// inside calls f in a namespace; nil is the host's.
func inside(ns *os.File, f func() error) error {
	if ns == nil {
		return f()
	}
	return netns.Do(ns, f)
}

// sink is a server in a namespace that counts what it gets, and answers one byte
// to the first.
func sink(t *testing.T, ns *os.File, addr string) *atomic.Int64 {
	t.Helper()
	var got atomic.Int64
	var l net.Listener
	if err := inside(ns, func() (err error) {
		l, err = net.Listen("tcp4", addr)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	need.Serve(t, l, func(c net.Conn) {
		buf := make([]byte, 256<<10)
		for first := true; ; first = false {
			n, err := c.Read(buf)
			got.Add(int64(n))
			if err != nil {
				return
			}
			if first {
				c.Write(buf[:1])
			}
		}
	})
	return &got
}

// window is how long each way is tried.
const window = 200 * time.Millisecond

// throughput sends from a namespace for a while, in megabytes. It ends when all has
// arrived: what is still under way would be work of the next one to be measured.
func throughput(ns *os.File, addr string, got *atomic.Int64) (speed, error) {
	var c net.Conn
	if err := inside(ns, func() (err error) {
		c, err = net.DialTimeout("tcp4", addr, 10*time.Second)
		return err
	}); err != nil {
		return speed{}, err
	}
	defer c.Close()
	buf := make([]byte, 256<<10)
	before, begin, used := got.Load(), time.Now(), processor()
	for time.Since(begin) < window {
		if _, err := c.Write(buf); err != nil {
			return speed{}, err
		}
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return speed{}, err
	}
	if _, err := io.Copy(io.Discard, c); err != nil { // its end comes after the last byte
		return speed{}, err
	}
	return since(float64(got.Load()-before)/1e6, begin, used), nil
}

// requests connects, sends a byte and waits for one, again and again.
func requests(addr string) (speed, error) {
	const at = 2
	var n atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, at)
	begin, used := time.Now(), processor()
	for i := range at {
		wg.Go(func() {
			for time.Since(begin) < window {
				if errs[i] = once(addr); errs[i] != nil {
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return since(float64(n.Load()), begin, used), errors.Join(errs...)
}

// once is one request.
func once(addr string) error {
	c, err := net.DialTimeout("tcp4", addr, 10*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.(*net.TCPConn).SetLinger(0) // no connection waits for its end: there are many
	if _, err := c.Write([]byte{'?'}); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}

// inTurn measures ways in turn, every other round the last one first, and returns
// all rounds of each. The same way twice differs by 4 % as first and as second.
func inTurn(t *testing.T, ways ...func() (speed, error)) [][]speed {
	t.Helper()
	out := make([][]speed, len(ways))
	for round := range rounds {
		for i := range ways {
			if round%2 == 1 {
				i = len(ways) - 1 - i
			}
			got, err := ways[i]()
			if err != nil {
				t.Fatal(err)
			}
			out[i] = append(out[i], got)
		}
	}
	return out
}

// TestNetwork compares what containers send and serve with a bridge by hand, and
// published ports with the container's own address.
func TestNetwork(t *testing.T) {
	if os.Getenv("LADE_BENCH") == "" {
		t.Skip("LADE_BENCH is not set")
	}
	hand := makeByHand(t)
	e := harness.Start(t)
	e.Run("import", rootfs(t), image)
	e.Run("run", "-d", "--name", "one", image, "sleep", "1000")
	e.Run("run", "-d", "--name", "two", "-p", "127.0.0.1::80", image, "sleep", "1000")
	one, two := namespace(t, e, "one"), namespace(t, e, "two")
	own := e.Run("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "two") + ":80"
	dnat := e.Run("port", "two", "80")
	bare, lade := sink(t, hand.two, ":80"), sink(t, two, ":80")
	way := func(ns *os.File, addr string, got *atomic.Int64) func() (speed, error) {
		return func() (speed, error) { return throughput(ns, addr, got) }
	}
	ask := func(addr string) func() (speed, error) {
		return func() (speed, error) { return requests(addr) }
	}
	r := inTurn(t, way(hand.one, hand.addr.String()+":80", bare), way(one, own, lade))
	ratio(t, "container to container, TCP", r[1], r[0], 0.95, "MB/s")
	r = inTurn(t, way(nil, hand.addr.String()+":80", bare), way(nil, own, lade))
	ratio(t, "host to container, TCP", r[1], r[0], 0.95, "MB/s")
	r = inTurn(t, way(nil, own, lade), way(nil, dnat, lade))
	ratio(t, "published port on localhost, TCP", r[1], r[0], 0.9, "MB/s")
	r = inTurn(t, ask(own), ask(dnat))
	ratio(t, "published port on localhost, requests", r[1], r[0], 0.9, "/s")

	// With a gate the host has a rule of routing, by which the others' packets go, too.
	e.Run("run", "-d", "--name", "three", "-p", "127.0.0.1::80,policy=gate", image, "sleep", "1000")
	gate, gated := e.Run("port", "three", "80"), sink(t, namespace(t, e, "three"), ":80")
	r = inTurn(t, way(nil, own, lade), way(nil, dnat, lade), way(nil, gate, gated))
	note(t, "published port beside a gated one, TCP, processor time as a ratio", work(r[1], r[0]), "")
	note(t, "gated port on localhost, TCP", fastest(r[2]), "MB/s")
	r = inTurn(t, ask(own), ask(dnat), ask(gate))
	note(t, "published port beside a gated one, requests, processor time as a ratio", work(r[1], r[0]), "")
	note(t, "gated port on localhost, requests", fastest(r[2]), "/s")
}

// namespace opens a container's network namespace.
func namespace(t *testing.T, e *harness.Engine, name string) *os.File {
	t.Helper()
	ns, err := os.Open("/proc/" + e.Run("inspect", "-f", "{{.State.Pid}}", name) + "/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// slab is how much memory the kernel has for its objects, in kilobytes.
func slab(t *testing.T) float64 {
	t.Helper()
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Slab:" {
			kb, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb
		}
	}
	t.Fatal("no Slab in /proc/meminfo")
	return 0
}

// TestManyPorts publishes 10,000 ports: what they cost, and what a connection to
// another one then takes.
func TestManyPorts(t *testing.T) {
	if os.Getenv("LADE_BENCH") == "" {
		t.Skip("LADE_BENCH is not set")
	}
	e := harness.Start(t)
	e.Run("import", rootfs(t), image)
	e.Run("run", "-d", "--name", "few", "-p", "127.0.0.1:9999:80", image, "sleep", "1000")
	sink(t, namespace(t, e, "few"), ":80")
	connects := func() float64 {
		var low []time.Duration
		for range rounds {
			d := measure(t, 500, func() error { return once("127.0.0.1:9999") })
			slices.Sort(d)
			low = append(low, d[len(d)/2])
		}
		return float64(slices.Min(low)) / float64(time.Microsecond)
	}
	without := connects()
	before, kernel := pss(t, e.Pid()), slab(t)
	begin := time.Now()
	e.Run("run", "-d", "--name", "many", "-p", "10000-19999:10000-19999", image, "sleep", "1000")
	note(t, "10,000 published ports: run -d", time.Since(begin).Seconds()*1000, "ms")
	const what = "10,000 published ports: "
	used := pss(t, e.Pid()) - before + slab(t) - kernel
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(time.Second) { // it gives back what the start took
		used = min(used, pss(t, e.Pid())-before+slab(t)-kernel)
	}
	note(t, what+"memory of laded alone", (pss(t, e.Pid())-before)/1024, "MB")
	limit(t, what+"memory of laded and of the kernel", used/1024, 20, "MB")
	note(t, what+"connection to another port before, median", without, "us")
	limit(t, what+"and after, as a ratio", connects()/without, 1.05, "")
	begin = time.Now()
	e.Run("update", "--publish-add", "20000:20000", "many")
	note(t, what+"one more, update --publish-add", time.Since(begin).Seconds()*1000, "ms")
}

// connected returns how long laded says that it took to connect containers to their
// first networks, as they were started: namespace, interface, addresses, ports.
func connected(t *testing.T, e *harness.Engine) (all times) {
	t.Helper()
	for line := range strings.Lines(e.Log()) {
		_, rest, ok := strings.Cut(line, "msg=started connect=")
		if !ok {
			continue
		}
		word, _, _ := strings.Cut(rest, " ")
		d, err := time.ParseDuration(word)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

// TestConnecting connects containers to networks: as they start, from the pool,
// and while they run, to a further one, for which there is no pool. It looks
// whether removing many holds up who comes.
func TestConnecting(t *testing.T) {
	if os.Getenv("LADE_BENCH") == "" {
		t.Skip("LADE_BENCH is not set")
	}
	e := harness.Start(t, "--debug") // its log tells what a start takes
	e.Run("import", rootfs(t), image)
	c := connect(t, e)
	ctx := t.Context()
	e.Run("network", "create", "bench-more")
	t.Cleanup(func() {
		e.Run("rm", "-f", "joins")
		e.Run("network", "rm", "bench-more")
	})
	for range 30 {
		if err := run(ctx, c, nil, "true"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond) // a start now and then; the pool fills itself
	}
	limit(t, "connect to the first network, from the pool, median", connected(t, e).median(), 1, "ms")

	e.Run("run", "-d", "--name", "joins", image, "sleep", "1000")
	var took times
	const joins = 50
	used := cpu(t, e.Pid())
	for range joins {
		begin := time.Now()
		if _, err := c.NetworkConnect(ctx, "bench-more", client.NetworkConnectOptions{Container: "joins"}); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(begin))
		if _, err := c.NetworkDisconnect(ctx, "bench-more", client.NetworkDisconnectOptions{Container: "joins"}); err != nil {
			t.Fatal(err)
		}
	}
	limit(t, "network connect by API, without a pool, median", took.median(), 3, "ms")
	note(t, "  processor time of laded for connect and disconnect", (cpu(t, e.Pid())-used)/joins, "ms")

	life := func() float64 {
		d := measure(t, 20, func() error { return run(ctx, c, nil, "true") })
		return d.median()
	}
	alone := life()
	const n = 100
	ids := make([]string, n)
	inParallel(t, n, func(i int) (err error) {
		ids[i], err = create(ctx, c, "sleep", "1000")
		if err == nil {
			_, err = c.ContainerStart(ctx, ids[i], client.ContainerStartOptions{})
		}
		return err
	})
	gone := make(chan error, n)
	for _, id := range ids {
		go func() {
			_, err := c.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true})
			gone <- err
		}()
	}
	busy := life()
	for range n {
		if err := <-gone; err != nil {
			t.Error(err)
		}
	}
	note(t, "create+start+wait+remove alone, median", alone, "ms")
	limit(t, fmt.Sprintf("  while %d containers are removed", n), busy, 100, "ms")
}
