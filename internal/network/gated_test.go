package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"lade/internal/iprange"
	"lade/internal/linux/netlink"
	"lade/internal/linux/nft"
	"lade/internal/linux/service"
	"lade/internal/need"
	"lade/internal/network/gate"
)

// asGate makes the test binary a gate, for the directory that is its value.
const asGate = "LADE_TEST_GATE"

// testGate returns how to start a gate for a test. One whose last connection is with
// a container that is gone would end when TCP gives up, after a quarter of an hour.
func testGate(t testing.TB, dir string) gate.Options {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		raw, err := os.ReadFile(filepath.Join(dir, "pid"))
		if err != nil {
			return // none was needed
		}
		line, _ := os.ReadFile("/proc/" + string(raw) + "/cmdline")
		if pid, err := strconv.Atoi(string(raw)); err == nil && strings.Contains(string(line), dir) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may be ending
		}
	})
	return gate.Options{Root: dir, Binary: exe, Args: []string{"-test.run=^$"}, Env: []string{asGate + "=" + dir}, Build: "one", Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

func runGate(root string) {
	s, err := gate.Listen(root, "one", slices.Contains(os.Args, "--next"), slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	pid := []byte(strconv.Itoa(os.Getpid()))
	if err := os.WriteFile(filepath.Join(root, "pid"), pid, 0o600); err != nil {
		os.Exit(1)
	}
	if err := service.Detach(os.DevNull); err != nil {
		os.Exit(1)
	}
	s.Run(context.Background())
}

// gatePid returns the process id of the test's gate.
func (b *bench) gatePid() int {
	b.t.Helper()
	raw, err := os.ReadFile(filepath.Join(b.c.Gate.Root, "pid"))
	if err != nil {
		b.t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(raw))
	if err != nil {
		b.t.Fatal(err)
	}
	return pid
}

func ranges(t testing.TB, all ...string) (out []iprange.Range) {
	t.Helper()
	for _, s := range all {
		r, err := iprange.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// input adds rules to the host's own firewall: packets to TCP ports are dropped
// when they are for a socket of the host.
func input(t testing.TB, ports ...uint16) {
	t.Helper()
	c, err := nft.Dial()
	if err != nil {
		t.Fatal(err)
	}
	b := nft.NewBatch("hostsown")
	b.AddTable()
	b.AddChain(nft.Chain{Name: "in", Type: "filter", Hook: nft.Input})
	for _, p := range ports {
		b.AddRule("in", nft.Meta(unix.NFT_META_L4PROTO, 0), nft.Equal(0, []byte{unix.IPPROTO_TCP}), nft.DstPort(0), nft.Equal(0, nft.Port(p)), nft.Drop())
	}
	if err := c.Commit(b); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer c.Close()
		b := nft.NewBatch("hostsown")
		b.DelTable()
		if err := c.Commit(b); err != nil {
			t.Error(err)
		}
	})
}

// TestGate sends packets through gated ports, in both br_netfilter settings: from
// everywhere a client can be.
func TestGate(t *testing.T) { onBothBridges(t, testGated) }

func testGated(t *testing.T) {
	b := newBench(t, nil)
	gw := b.gateway().String()
	local := netip.MustParseAddr("127.0.0.1")
	b.create(network.CreateRequest{Name: "other", IPAM: subnet("10.61.0.0/24")})
	b.create(network.CreateRequest{Name: "in", IPAM: subnet("10.63.0.0/24"), Internal: true})
	one := b.connect(Request{Name: "one", Ports: []Publish{
		{Proto: "tcp", Port: 80, HostPort: 8080, Policy: PolicyGate},
		{Proto: "udp", Port: 53, HostPort: 8053, Policy: PolicyGate},
		{Proto: "tcp", Port: 80, HostPort: 8081, Policy: PolicyGate, HostIP: local},
		{Proto: "tcp", Port: 80, HostPort: 8082, Policy: PolicyGate, HostIP: machine},
		{Proto: "tcp", Port: 80, HostPort: 8083},
		{Proto: "tcp", Port: 80, HostPort: 8084, Policy: PolicyGate, From: ranges(t, "127.0.0.0/8", "10.50.0.1-10.50.0.9")},
		{Proto: "tcp", Port: 80, HostPort: 8085, Policy: PolicyGate, From: ranges(t, outside.String())},
		{Proto: "tcp", Port: 81, HostPort: 8086, Policy: PolicyGate},
		{Proto: "tcp", Port: 80, HostPort: 8087, HostIP: netip.IPv6Loopback()},
	}})
	two := b.connect(Request{Name: "two"})
	far := b.connect(Request{Name: "far", Network: "other"})
	inside := b.connect(Request{Name: "inside", Network: "in"})
	serve(t, one.NetNS, "tcp", ":80")
	serve(t, one.NetNS, "udp", ":53")

	answers(t, "outside", b.other, "tcp", machine.String()+":8080", outside.String())
	answers(t, "outside, UDP", b.other, "udp", machine.String()+":8053", outside.String())
	answers(t, "outside to host address", b.other, "tcp", machine.String()+":8082", outside.String())
	answers(t, "localhost", nil, "tcp", "127.0.0.1:8080", gw)
	answers(t, "localhost, UDP", nil, "udp", "127.0.0.1:8053", gw)
	answers(t, "localhost only", nil, "tcp", "127.0.0.1:8081", gw)
	answers(t, "IPv6 localhost to IPv4", nil, "tcp6", "[::1]:8087", gw)
	answers(t, "host by its own address", nil, "tcp", machine.String()+":8080", machine.String())
	answers(t, "host by its own address, UDP", nil, "udp", machine.String()+":8053", machine.String())
	answers(t, "another container", two.NetNS, "tcp", gw+":8080", gw)
	answers(t, "another container, UDP", two.NetNS, "udp", machine.String()+":8053", gw)
	answers(t, "itself", one.NetNS, "tcp", machine.String()+":8080", gw)
	answers(t, "container of another network", far.NetNS, "tcp", machine.String()+":8080", "")
	answers(t, "allowed source", nil, "tcp", "127.0.0.1:8084", gw)
	answers(t, "allowed source outside", b.other, "tcp", machine.String()+":8085", outside.String())

	silent(t, "outside to localhost only", b.other, "tcp", machine.String()+":8081")
	silent(t, "another source", b.other, "tcp", machine.String()+":8084")
	silent(t, "another source on the host", nil, "tcp", "127.0.0.1:8085")
	silent(t, "internal network", inside.NetNS, "tcp", "10.63.0.1:8080")
	if _, err := ask(b.other, "tcp", machine.String()+":8086", patience); !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("nobody listens in the container: %v", err)
	}

	input(t, 8080, 8083)
	silent(t, "refused by the host's INPUT rules", b.other, "tcp", machine.String()+":8080")
	answers(t, "not gated: INPUT rules do not count", b.other, "tcp", machine.String()+":8083", outside.String())
}

// TestSources has lists of sources with address translation.
func TestSources(t *testing.T) {
	b := newBench(t, nil)
	b.create(network.CreateRequest{Name: "routed", IPAM: subnet("10.65.0.0/24"), Options: map[string]string{optMode4: modeRouted}})
	one := b.connect(Request{Name: "one", Ports: []Publish{
		{Proto: "tcp", Port: 80, HostPort: 8080, From: ranges(t, "10.99.0.0/24", "10.99.0.2", "192.0.2.0/24")},
		{Proto: "tcp", Port: 80, HostPort: 8081, From: ranges(t, "10.50.0.1-10.50.0.9", "10.99.0.3-10.99.0.255", "fd00::/8")},
		{Proto: "tcp", Port: 80, HostPort: 8082, From: ranges(t, "10.99.0.1-10.99.0.2"), HostIP: machine},
		{Proto: "tcp", Port: 80, HostPort: 8083, From: ranges(t, "fd00::/8")},
		{Proto: "udp", Port: 53, HostPort: 8053, From: ranges(t, "10.99.0.2")},
		{Proto: "tcp", Port: 80, HostPort: 8084},
	}})
	way := b.connect(Request{Name: "way", Network: "routed", Ports: []Publish{
		{Proto: "tcp", Port: 80, From: ranges(t, "10.99.0.2")}, {Proto: "tcp", Port: 81, From: ranges(t, "10.99.0.3")},
	}})
	serve(t, one.NetNS, "tcp", ":80")
	serve(t, one.NetNS, "udp", ":53")
	serve(t, way.NetNS, "tcp", ":80")
	serve(t, way.NetNS, "tcp", ":81")
	check := func(when string) {
		t.Helper()
		for port, want := range map[string]bool{"8080": true, "8081": false, "8082": true, "8083": false, "8084": true} {
			if want {
				answers(t, when+port, b.other, "tcp", machine.String()+":"+port, outside.String())
			} else {
				silent(t, when+port, b.other, "tcp", machine.String()+":"+port)
			}
		}
		answers(t, when+"UDP", b.other, "udp", machine.String()+":8053", outside.String())
		silent(t, when+"UDP from the host", nil, "udp", "127.0.0.1:8053")
		silent(t, when+"from the host", nil, "tcp", "127.0.0.1:8080")
		answers(t, when+"routed", b.other, "tcp", way.IPv4.Addr().String()+":80", outside.String())
		silent(t, when+"routed, other source", b.other, "tcp", way.IPv4.Addr().String()+":81")
	}
	check("at first: ")
	b.crash()
	b.start()
	if err := b.n.Restore(t.Context(), map[string]bool{one.id: true, way.id: true}); err != nil {
		t.Fatal(err)
	}
	check("after a restart: ")
	if err := b.n.Release(t.Context(), one.id); err != nil {
		t.Fatal(err)
	}
	if left := b.n.wall.ports; len(left.from) != 1+1 || len(left.to) != 0 {
		t.Errorf("left: %v", left)
	}
}

// conversation is a connection that says a line and gets it back.
func conversation(t testing.TB, ns *os.File, addr string) func() error {
	t.Helper()
	var c net.Conn
	if err := in(ns, func() (err error) {
		c, err = net.DialTimeout("tcp4", addr, need.Patience(patience))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	n := 0
	return func() error {
		n++
		said := fmt.Sprintf("%8d", n)
		c.SetDeadline(time.Now().Add(need.Patience(30 * time.Second)))
		if _, err := io.WriteString(c, said); err != nil {
			return err
		}
		heard := make([]byte, len(said))
		_, err := io.ReadFull(c, heard)
		if err == nil && string(heard) != said {
			err = fmt.Errorf("heard %q", heard)
		}
		return err
	}
}

// echo returns what it gets, in a namespace.
func echo(t testing.TB, ns *os.File, addr string) {
	t.Helper()
	if err := in(ns, func() error {
		return accept(t, "tcp4", addr, func(c net.Conn) { io.Copy(c, c) })
	}); err != nil {
		t.Fatal(err)
	}
}

// TestGateSurvives restarts the engine, with another build, kills the gate,
// and removes what it needs of the host.
func TestGateSurvives(t *testing.T) {
	b := newBench(t, nil)
	port := machine.String() + ":8080"
	one := b.connect(Request{Name: "one", Ports: []Publish{
		{Proto: "tcp", Port: 80, HostPort: 8080, Policy: PolicyGate}, {Proto: "udp", Port: 53, HostPort: 8053, Policy: PolicyGate}, {Proto: "tcp", Port: 79, HostPort: 8079, Policy: PolicyGate},
	}})
	goes := b.connect(Request{Name: "goes", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8081, Policy: PolicyGate}}})
	serve(t, one.NetNS, "tcp", ":79")
	serve(t, one.NetNS, "udp", ":53")
	echo(t, one.NetNS, ":80")
	talk := conversation(t, b.other, port)
	check := func(when string) {
		t.Helper()
		if err := talk(); err != nil {
			t.Errorf("%s: the connection from before: %v", when, err)
		}
		answers(t, when, b.other, "tcp", machine.String()+":8079", outside.String())
		answers(t, when+", UDP", b.other, "udp", machine.String()+":8053", outside.String())
	}
	restart := func() {
		t.Helper()
		b.start()
		if err := b.n.Restore(t.Context(), map[string]bool{one.id: true}); err != nil {
			t.Fatal(err)
		}
	}
	check("at first")
	first := b.gatePid()
	// It serves the connections that it has to their end, which some never reach
	// here: their namespace goes.
	pidfd, err := unix.PidfdOpen(first, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) // ESRCH: it has ended
		unix.Close(pidfd)
	})
	b.crash()
	check("while the engine is away")
	restart()
	check("after a restart")
	if b.gatePid() != first {
		t.Error("the gate was started again")
	}
	_, err = b.n.Connect(t.Context(), Request{ContainerID: "x", Name: "x", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8079}}})
	if err == nil || !strings.Contains(err.Error(), "Bind for 0.0.0.0:8079 failed: port is already allocated") {
		t.Errorf("a port that is served: %v", err)
	}
	silent(t, "the port of a container that ended", b.other, "tcp", machine.String()+":8081")
	goes.NetNS.Close()

	b.crash()
	b.c.Gate.Build = "two"
	restart()
	eventually(t, "a gate of the new build", func() error {
		if b.gatePid() == first {
			return errors.New("still the old one")
		}
		return nil
	})
	check("with another build")

	// By somebody else's hand: not through the engine.
	rt := dial(t)
	defer rt.Close()
	var r netlink.Request
	r.DelRule(netlink.Rule{Priority: rulePriority, Mark: b.n.wall.way.back, Table: b.n.wall.way.back})
	if err := rt.Do(&r); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rule is made anew", func() error {
		_, err := ask(b.other, "tcp", machine.String()+":8079", patience)
		return err
	})
	check("with a new rule")

	if err := syscall.Kill(b.gatePid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new gate", func() error {
		_, err := ask(b.other, "tcp", machine.String()+":8079", patience)
		return err
	})
	check("with the third gate") // and the connection of the first
	for range 2 {                // the client is reset when the container ends
		talk = conversation(t, b.other, port)
		check("a new connection")
	}
	pid := b.gatePid()
	if err := b.n.Release(t.Context(), one.id); err != nil {
		t.Fatal(err)
	}
	if err := talk(); !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
		t.Errorf("a connection when the container has ended: %v", err)
	}
	silent(t, "after the end", b.other, "tcp", machine.String()+":8079")
	b.crash()
	eventually(t, "the gate ends", func() error {
		if err := syscall.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("%d: %v", pid, err)
		}
		return nil
	})
	b.start()
}

// TestGatePolicy has the engine's policy and that of a network.
func TestGatePolicy(t *testing.T) {
	b := newBench(t, func(c *Config) { c.PublishPolicy = PolicyGate })
	b.create(network.CreateRequest{Name: "old", IPAM: subnet("10.61.0.0/24"), Options: map[string]string{optPolicy: PolicyDNAT}})
	policies := func(network string) string {
		x := b.connect(Request{Name: "x", Network: network, Ports: []Publish{
			{Proto: "tcp", Port: 80}, {Proto: "tcp", Port: 81, Policy: PolicyGate}, {Proto: "tcp", Port: 82, Policy: PolicyDNAT},
		}})
		var out bytes.Buffer
		for _, p := range x.Published {
			fmt.Fprintf(&out, "%d %s, ", p.Port, p.Policy)
		}
		if err := b.n.Release(t.Context(), x.id); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if got := policies("bridge"); got != "80 gate, 81 gate, 82 dnat, " {
		t.Errorf("the engine's: %s", got)
	}
	if got := policies("old"); got != "80 dnat, 81 gate, 82 dnat, " {
		t.Errorf("the network's: %s", got)
	}
	if err := b.n.SetPublishPolicy("dnat"); err != nil {
		t.Fatal(err)
	}
	if got := policies("bridge"); got != "80 dnat, 81 gate, 82 dnat, " {
		t.Errorf("changed: %s", got)
	}
	if err := b.n.SetPublishPolicy("x"); err == nil {
		t.Error("an unknown policy was taken")
	}
	if _, err := b.n.Create(t.Context(), network.CreateRequest{Name: "bad", Options: map[string]string{optPolicy: "x"}}); err == nil {
		t.Error("a network with an unknown policy was made")
	}
	for what, p := range map[string]Publish{
		"only tcp and udp": {Proto: "sctp", Port: 1, Policy: PolicyGate}, `invalid publish policy "x"`: {Proto: "tcp", Port: 1, Policy: "x"},
	} {
		if _, err := b.n.Connect(t.Context(), Request{ContainerID: "x", Name: "x", Ports: []Publish{p}}); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v: %v, want %s", p, err, what)
		}
	}
}
