package network

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"

	"lade/internal/errdefs"
	"lade/internal/netrate"
	"lade/internal/network/ipam"
	"lade/internal/store"
)

// crashDir names the store of the engine that TestCrash kills.
const crashDir = "LADE_TEST_CRASH"

// TestCrashing is that engine: it connects and releases until it is killed.
func TestCrashing(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		return
	}
	c := Config{Logger: slog.New(slog.DiscardHandler), Bridge: os.Getenv(crashDir + "_BRIDGE"), ICC: true, IPMasq: true, PoolSize: 4}
	s, err := store.Open(dir, c.Logger)
	if err != nil {
		t.Fatal(err)
	}
	c.Store = s
	n, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Restore(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(rand.Uint64(), 0))
	acks := os.NewFile(3, "acks")
	step := func(what string, f func() error) {
		fmt.Fprintln(acks, what, underway)
		if err := f(); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(acks, what, n.stateOf(what))
	}
	for i := 0; ; i++ {
		id := fmt.Sprint(i % 8)
		name := fmt.Sprint("n", rnd.IntN(3))
		step(name, func() error { return change(t, n, name, rnd) })
		step(id, func() error { return n.Release(t.Context(), id) })
		var ns *os.File
		step(id, func() error {
			e, err := n.Connect(t.Context(), Request{ContainerID: id, Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: uint16(9000 + i%8)}, {Proto: "udp", Port: 80}}, Rates: asked(netrate.Bits(i%3)*1e6, netrate.Bits(i%2)*1e6)})
			if err == nil {
				ns = e.NetNS
			}
			return err
		})
		for j := range 3 { // come and go, in any order
			step(id, func() error { return roam(t, n, id, fmt.Sprint("n", (i+j)%3), ns, rnd) })
		}
		ns.Close()
		step(id, func() error {
			err := n.Limit(t.Context(), id, asked(netrate.Bits(i%2)*1e6, netrate.Bits(i%3)*1e6))
			if errdefs.KindOf(err) == errdefs.Invalid { // one of its networks has no rates
				return nil
			}
			return err
		})
	}
}

// underway stands for the state of what an operation is changing.
const underway = "?"

// stateOf describes what is recorded of a container, or of a network, whose name
// begins with n: addresses, ports and limits.
func (n *Networks) stateOf(what string) string {
	if strings.HasPrefix(what, "n") {
		return n.ID(what)
	}
	c, ok := n.record(what)
	if !ok {
		return ""
	}
	var all []string
	for _, e := range c.Endpoints {
		all = append(all, fmt.Sprint(e.Network, e.IPv4, e.IPv6, e.MAC, e.Limits))
	}
	for _, p := range c.Ports {
		all = append(all, p.host().String())
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// model is what an engine said that it has done.
type model map[string]string

// read takes what the engine said until it was killed.
func (m model) read(acks io.Reader) error {
	lines := bufio.NewScanner(acks)
	for lines.Scan() {
		what, state, _ := strings.Cut(lines.Text(), " ")
		m[what] = state
	}
	return lines.Err()
}

// check compares with what the next engine found. Of the operation that was under
// way nothing was said yet.
func (m model) check(b *bench) {
	b.t.Helper()
	for what, state := range m {
		if got := b.n.stateOf(what); got != state && state != underway {
			b.t.Errorf("%s is %q after kill -9; it was said to be %q", what, got, state)
		}
	}
	for _, id := range b.n.Containers() {
		// "one" of the test may be there, too, if the engine was killed at once.
		if _, ok := m[id]; !ok && len(id) == 1 {
			b.t.Errorf("nobody has made container %s", id)
		}
	}
}

// change creates a network that is not there, and removes one that is.
func change(t *testing.T, n *Networks, name string, rnd *rand.Rand) error {
	var err error
	if n.ID(name) == "" {
		six := rnd.IntN(2) == 0
		q := network.CreateRequest{Name: name, EnableIPv6: &six, Internal: rnd.IntN(4) == 0}
		switch rnd.IntN(5) {
		case 0:
			q.Driver = driverMacvlan // with a link of its own
		case 1:
			q.Driver, q.Options = driverMacvlan, map[string]string{optParent: "uplink"}
		case 2:
			q = acrossRequest(name)
			q.IPAM = subnet("10.7" + name[1:] + ".0.0/24") // n0, n1, …
		}
		_, err = n.Create(t.Context(), q)
	} else if err = n.Remove(t.Context(), name); errors.Is(err, errdefs.Forbidden) {
		return nil // somebody is in it
	}
	return err
}

// roam takes a container into a network, or out of it.
func roam(t *testing.T, n *Networks, id, name string, ns *os.File, rnd *rand.Rand) error {
	if n.ID(name) == "" {
		return nil
	}
	if c, _ := n.record(id); c.in(name) != nil {
		return n.Detach(t.Context(), id, name, ns)
	}
	_, err := n.Attach(t.Context(), Request{ContainerID: id, Network: name, NetNS: ns, Priority: rnd.IntN(3) - 1})
	return err
}

// TestCrash kills an engine with SIGKILL while it works, and checks that the
// next one finds what was acknowledged, and a state it can go on from.
func TestCrash(t *testing.T) {
	b := newBench(t, nil)
	said := model{}
	for range 8 {
		for _, name := range []string{"n0", "n1", "n2"} {
			said[name] = b.n.stateOf(name)
		}
		b.crash()
		acks, tell, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestCrashing$")
		cmd.Env = append(os.Environ(), crashDir+"="+b.dir, crashDir+"_BRIDGE="+b.c.Bridge)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		var out strings.Builder
		cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &out, &out, []*os.File{tell}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		tell.Close()
		read := make(chan error, 1)
		go func() { read <- said.read(acks) }()
		time.Sleep(10*time.Millisecond + rand.N(200*time.Millisecond))
		cmd.Process.Kill()
		if err := cmd.Wait(); err != nil && out.Len() > 0 {
			t.Fatalf("the engine failed by itself: %v\n%s", err, out.String())
		}
		if err := errors.Join(<-read, acks.Close()); err != nil {
			t.Fatal(err)
		}

		b.start()
		said.check(b)
		// What the records say, and nothing else, is in force now.
		for _, id := range b.n.Containers() {
			r, _ := b.n.record(id)
			if err := b.n.takeFails(r); err != nil {
				t.Error(err)
			}
		}
		if err := b.n.Restore(t.Context(), nil); err != nil {
			t.Error(err)
		}
		b.sound()
		if len(b.n.containers)+len(b.n.ports.held) != 0 || !b.n.wall.ports.empty() {
			t.Errorf("left: %v, %v, %v", b.n.containers, b.n.wall.ports, b.n.ports.held)
		}
		one := b.connect(Request{Name: "one", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 9001}}})
		serve(t, one.NetNS, "tcp", ":80")
		answers(t, "after the crash", b.other, "tcp", machine.String()+":9001", outside.String())
		clear(said) // all containers are gone
	}
	b.crash()
	b.start()
	if err := b.n.Restore(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// sound checks that after a crash kernel, books and records are one: each network
// has its bridge and nothing else has one, and all addresses are free.
func (b *bench) sound() {
	b.t.Helper()
	links, err := b.n.rt.Links()
	if err != nil {
		b.t.Fatal(err)
	}
	bridges := map[string]bool{} // and the parents that are ours
	for _, l := range links {
		if l.Kind == "bridge" || l.Name == "uplink" || strings.HasPrefix(l.Name, "dm-") {
			bridges[l.Name] = true
		}
	}
	for _, br := range b.n.allBridges() {
		if !bridges[br.hostLink()] {
			b.t.Errorf("network %s has no link %s", br.network, br.hostLink())
		}
		if br.users != 0 {
			b.t.Errorf("network %s has %d users", br.network, br.users)
		}
		if v, ok := b.c.Store.Get(networkBucket, br.network); !ok || !strings.Contains(string(v), br.id) {
			b.t.Errorf("network %s is recorded as %s", br.network, v)
		}
		if br.v6.addrs != nil {
			want := 2 // all routers', and the bridge's
			if br.children != nil {
				want = 1
			}
			if free := len(br.v6.addrs.(*ipam.Sparse).InUse()); free != want {
				b.t.Errorf("network %s: %d addresses in use", br.network, free)
			}
		}
	}
	for _, br := range b.n.allBridges() {
		delete(bridges, br.hostLink())
	}
	delete(bridges, "uplink")
	for name := range bridges {
		b.t.Errorf("link %s belongs to no network", name)
	}
	b.soundAcross(links)
}

// takeFails checks that nobody else gets what a container has.
func (n *Networks) takeFails(c *containerRecord) error {
	for _, e := range c.Endpoints {
		for _, six := range families() {
			ip := e.addr(six)
			if !ip.IsValid() {
				continue
			}
			if _, err := n.bridge(e.Network).side(six).take(ip, nil); err == nil {
				return fmt.Errorf("address %s was free", ip)
			}
		}
	}
	for _, p := range c.Ports {
		h := p.host()
		if n.ports.take(h) {
			return errors.New("port " + h.String() + " was free")
		}
	}
	return nil
}
