package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/ids"
	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/linux/nft"
	"lade/internal/need"
	"lade/internal/store"
)

// own marks the process that has a network namespace of its own.
const own = "LADE_TEST_NETNS"

// TestMain runs the tests again in a new network namespace, when root: nothing
// of the machine's network is seen or touched.
func TestMain(m *testing.M) {
	if root := os.Getenv(asGate); root != "" {
		runGate(root)
		return
	}
	if os.Getuid() != 0 || os.Getenv(own) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), own+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "new network namespace:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// bench is an engine's networks, and another host that the machine can reach.
type bench struct {
	t      testing.TB
	c      Config
	n      *Networks
	dir    string
	before []string
	other  *os.File // namespace of the other host
}

// Addresses of the machine and the other host, on the link between them.
var (
	machine = netip.MustParseAddr("10.99.0.1")
	outside = netip.MustParseAddr("10.99.0.2")
)

func newBench(t testing.TB, change func(*Config)) *bench {
	t.Helper()
	need.Root(t)
	b := &bench{t: t, dir: t.TempDir()}
	b.before = b.inventory()
	rt := dial(t)
	up(t, rt, "lo")
	b.c = Config{
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Bridge: fmt.Sprintf("ltb%d", os.Getpid()%100000),
		ICC: true, IPMasq: true, IPForward: true, PoolSize: 2, Gate: testGate(t, t.TempDir()),
	}
	if change != nil {
		change(&b.c)
	}
	var err error
	b.other, err = netns.New(func(ns *os.File) error {
		var r netlink.Request
		r.AddVeth(netlink.Veth{Name: "uplink", MTU: 1500, Peer: "eth0", PeerNS: ns})
		if err := rt.Do(&r); err != nil {
			return err
		}
		in := dial(t)
		r.Reset()
		r.SetUp(0, "uplink")
		if err := rt.Do(&r); err != nil {
			return err
		}
		r.Reset()
		r.SetUp(1, "")
		r.SetUp(0, "eth0")
		if err := in.Do(&r); err != nil {
			return err
		}
		eth0, err := settle(in, 0, "eth0")
		if err != nil {
			return err
		}
		r.Reset()
		r.AddAddr(eth0.Index, netip.PrefixFrom(outside, 24))
		r.AddDefaultRoute(eth0.Index, machine)
		return in.Do(&r)
	})
	if err != nil {
		t.Fatal(err)
	}
	uplink, err := settle(rt, 0, "uplink")
	if err != nil {
		t.Fatal(err)
	}
	var r netlink.Request
	r.AddAddr(uplink.Index, netip.PrefixFrom(machine, 24))
	if err := rt.Do(&r); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if b.n != nil {
			if err := b.n.Destroy(context.Background()); err != nil {
				t.Errorf("Destroy: %v", err)
			}
			if err := b.c.Store.Close(); err != nil {
				t.Error(err)
			}
		}
		r.Reset()
		r.DelLink(uplink.Index)
		if err := rt.Do(&r); err != nil {
			t.Error(err)
		}
		b.other.Close()
		rt.Close()
		eventually(t, "nothing left behind", func() error {
			if now := b.inventory(); !slices.Equal(now, b.before) {
				return fmt.Errorf("before %v, now %v", b.before, now)
			}
			return nil
		})
	})
	b.start()
	return b
}

// gateway is the IPv4 address of the default bridge.
func (b *bench) gateway() netip.Addr { return b.n.HostGateway()[0] }

// start opens the store and the networks, as the daemon does.
func (b *bench) start() {
	b.t.Helper()
	s, err := store.Open(b.dir, b.c.Logger)
	if err != nil {
		b.t.Fatal(err)
	}
	b.c.Store = s
	if b.n, err = New(b.t.Context(), b.c); err != nil {
		b.t.Fatal(err)
	}
}

// crash ends the engine as kill -9 does, as far as the kernel sees: only
// descriptors are closed.
func (b *bench) crash() {
	b.t.Helper()
	if err := b.n.Close(); err != nil {
		b.t.Fatal(err)
	}
	if err := b.c.Store.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.n = nil
}

// inventory lists the links and the nftables tables.
func (b *bench) inventory() (out []string) {
	b.t.Helper()
	rt := dial(b.t)
	defer rt.Close()
	links, err := rt.Links()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, l := range links {
		out = append(out, l.Name)
	}
	c, err := nft.Dial()
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close()
	tables, err := c.Tables(nft.IPv4)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, name := range tables {
		out = append(out, "table "+name)
	}
	slices.Sort(out)
	return out
}

// box stands for a container: an endpoint and its namespace.
type box struct {
	b  *bench
	id string
	*Endpoint
}

func (b *bench) connect(r Request) *box {
	b.t.Helper()
	if r.ContainerID == "" {
		r.ContainerID = ids.New()
	}
	e, err := b.n.Connect(b.t.Context(), r)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { e.NetNS.Close() })
	return &box{b, r.ContainerID, e}
}

// serve answers each TCP connection, or UDP datagram, in a namespace (nil: the
// machine's own) with the address it came from.
func serve(t testing.TB, ns *os.File, proto, addr string) {
	t.Helper()
	err := in(ns, func() error {
		if proto == "udp" {
			c, err := net.ListenPacket("udp4", addr)
			if err != nil {
				return err
			}
			t.Cleanup(func() { c.Close() })
			go func() {
				var buf [100]byte
				for {
					_, from, err := c.ReadFrom(buf[:])
					if err != nil {
						return
					}
					c.WriteTo([]byte(from.String()), from)
				}
			}()
			return nil
		}
		return accept(t, version(proto), addr, func(c net.Conn) { io.WriteString(c, c.RemoteAddr().String()) })
	})
	if err != nil {
		t.Fatal(err)
	}
}

// accept serves each connection in a goroutine of its own, in the namespace of
// the calling thread.
func accept(t testing.TB, network, addr string, serve func(net.Conn)) error {
	l, err := net.Listen(network, addr)
	if err != nil {
		return err
	}
	need.Serve(t, l, serve)
	return nil
}

// How long an answer may take: less than the kernel waits before it sends a
// lost SYN again, so that a lost packet is seen; and how long silence lasts.
const patience, silence = 900 * time.Millisecond, 300 * time.Millisecond

// ask returns the address that the server at addr saw.
func ask(ns *os.File, proto, addr string, timeout time.Duration) (from string, err error) {
	err = in(ns, func() error {
		c, err := net.DialTimeout(version(proto), addr, timeout)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(timeout))
		if proto == "udp" {
			if _, err := c.Write([]byte("?")); err != nil {
				return err
			}
			var buf [100]byte
			n, err := c.Read(buf[:])
			from = string(buf[:n])
			return err
		}
		b, err := io.ReadAll(c)
		from = string(b)
		return err
	})
	if a, err := netip.ParseAddrPort(from); err == nil {
		from = a.Addr().String()
	}
	return from, err
}

// version makes a protocol that does not say so one of IPv4.
func version(proto string) string {
	if strings.HasSuffix(proto, "6") {
		return proto
	}
	return proto + "4"
}

func in(ns *os.File, f func() error) error {
	if ns == nil {
		return f()
	}
	return netns.Do(ns, f)
}

func dial(t testing.TB) *netlink.Conn {
	t.Helper()
	c, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func up(t testing.TB, c *netlink.Conn, name string) {
	t.Helper()
	var r netlink.Request
	r.SetUp(0, name)
	if err := c.Do(&r); err != nil {
		t.Fatal(err)
	}
}

// eventually repeats check until it passes or thirty seconds are over.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(need.Patience(30 * time.Second)); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Errorf("%s: %v", what, err)
}

func answers(t testing.TB, what string, ns *os.File, proto, addr, from string) {
	t.Helper()
	got, err := ask(ns, proto, addr, patience)
	if err != nil {
		t.Errorf("%s: %v", what, err)
	} else if from != "" && got != from {
		t.Errorf("%s: the server saw %s, want %s", what, got, from)
	}
}

func silent(t testing.TB, what string, ns *os.File, proto, addr string) {
	t.Helper()
	if got, err := ask(ns, proto, addr, silence); err == nil {
		t.Errorf("%s: an answer to %s", what, got)
	}
}

// first returns the record of a container's first endpoint.
func (n *Networks) first(container string) (*endpointRecord, bool) {
	c, ok := n.record(container)
	if !ok || len(c.Endpoints) == 0 {
		return &endpointRecord{}, false
	}
	return c.Endpoints[0], true
}

func readFile(name string) (string, error) {
	b, err := os.ReadFile(name)
	return string(b), err
}
