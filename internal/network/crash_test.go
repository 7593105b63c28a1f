package network

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"lade/internal/netrate"
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
	for i := 0; ; i++ {
		id := fmt.Sprint(i % 8)
		if err := n.Release(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		e, err := n.Connect(t.Context(), Request{ContainerID: id, Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: uint16(9000 + i%8)}, {Proto: "udp", Port: 80}}, Rates: asked(netrate.Bits(i%3)*1e6, netrate.Bits(i%2)*1e6)})
		if err != nil {
			t.Fatal(err)
		}
		e.NetNS.Close()
		if err := n.Limit(t.Context(), id, asked(netrate.Bits(i%2)*1e6, netrate.Bits(i%3)*1e6)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCrash kills an engine with SIGKILL while it works, and checks that the
// next one finds a state it can go on from.
func TestCrash(t *testing.T) {
	b := newBench(t, nil)
	b.crash()
	for range 8 {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestCrashing$")
		cmd.Env = append(os.Environ(), crashDir+"="+b.dir, crashDir+"_BRIDGE="+b.c.Bridge)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Millisecond + rand.N(200*time.Millisecond))
		cmd.Process.Kill()
		if err := cmd.Wait(); err != nil && out.Len() > 0 {
			t.Fatalf("the engine failed by itself: %v\n%s", err, out.String())
		}

		b.start()
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
		if len(b.n.containers)+len(b.n.wall.ports)+len(b.n.ports.held) != 0 {
			t.Errorf("left: %v, %v, %v", b.n.containers, b.n.wall.ports, b.n.ports.held)
		}
		one := b.connect(Request{Name: "one", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 9001}}})
		serve(t, one.NetNS, "tcp", ":80")
		answers(t, "after the crash", b.other, "tcp", machine.String()+":9001", outside.String())
		b.crash()
	}
	b.start()
	if err := b.n.Restore(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// takeFails checks that nobody else gets what a container has.
func (n *Networks) takeFails(c *containerRecord) error {
	for _, e := range c.Endpoints {
		for _, six := range families() {
			ip := e.addr(six)
			if !ip.IsValid() {
				continue
			}
			if _, err := n.bridge(e.Network).side(six).take(ip); err == nil {
				return fmt.Errorf("address %s was free", ip)
			}
		}
	}
	for _, h := range c.hostPorts() {
		if n.ports.take(h) {
			return errors.New("port " + h.String() + " was free")
		}
	}
	return nil
}
