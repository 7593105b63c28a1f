package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lade/internal/linux/netns"
	"lade/internal/need"
	"lade/test/harness"
)

// load connects to an address of a host again and again, some hundred times a
// second, and keeps one connection all the while.
type load struct {
	what, addr string
	host       *os.File // its network namespace
	kept       net.Conn // of one goroutine
	stop       chan struct{}
	wg         sync.WaitGroup
	requests   atomic.Int64

	mu   sync.Mutex
	errs []error
}

func newLoad(what string, host *os.File, addr string) *load {
	l := &load{what: what, host: host, addr: addr, stop: make(chan struct{})}
	const at, every = 4, 8 * time.Millisecond // 500 a second
	for range at {
		l.again(every, l.once)
	}
	l.again(10*time.Millisecond, func() (err error) {
		if l.kept == nil {
			if l.kept, err = net.Dial("tcp", addr); err != nil {
				return err
			}
		}
		return say(l.kept)
	})
	return l
}

// again calls f on the host, and again each time that a time has passed, until the
// end.
func (l *load) again(every time.Duration, f func() error) {
	l.wg.Go(func() {
		err := netns.Do(l.host, func() error {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for {
				select {
				case <-l.stop:
					return nil
				case <-tick.C:
					l.note(f())
				}
			}
		})
		if err != nil {
			l.note(err)
		}
	})
}

// once is one request on a connection of its own.
func (l *load) once() error {
	c, err := net.DialTimeout("tcp", l.addr, need.Patience(30*time.Second))
	if err != nil {
		return err
	}
	defer c.Close()
	return say(c)
}

// say waits for the answer to a line.
func say(c net.Conn) error {
	const line = "how do you do?\n"
	c.SetDeadline(time.Now().Add(need.Patience(30 * time.Second)))
	if _, err := io.WriteString(c, line); err != nil {
		return err
	}
	got := make([]byte, len(line))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != line {
		return fmt.Errorf("the answer is %q", got)
	}
	return nil
}

func (l *load) note(err error) {
	l.requests.Add(1)
	if err != nil {
		l.mu.Lock()
		l.errs = append(l.errs, err)
		l.mu.Unlock()
	}
}

// end returns how many requests there were, and what went wrong.
func (l *load) end() (requests int64, err error) {
	close(l.stop)
	l.wg.Wait()
	if l.kept != nil {
		l.kept.Close()
	}
	if len(l.errs) > 0 {
		err = fmt.Errorf("%s: %d of %d requests failed: %w", l.what, len(l.errs), l.requests.Load(), errors.Join(l.errs[:min(len(l.errs), 3)]...))
	}
	return l.requests.Load(), err
}

// echoIn serves in the network namespace of a container: whatever comes, comes
// back.
func echoIn(t testing.TB, e *harness.Engine, container, addr string) {
	t.Helper()
	ns, err := os.Open("/proc/" + e.Run("inspect", "-f", "{{.State.Pid}}", container) + "/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	err = netns.Do(ns, func() error {
		s, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		need.Serve(t, s, func(c net.Conn) { io.Copy(c, c) })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRestartsUnderLoad: clients of published ports, by either policy, notice
// nothing of ten restarts of the daemon: in order, by kill -9, with another build,
// and after kill -9 of the supervisor. The host is a namespace of the test's own:
// while the daemon is away another engine of this machine could publish the same
// port of the loopback. LADE_SOAK says for how long it goes on after that.
func TestRestartsUnderLoad(t *testing.T) {
	need.Root(t)
	var end time.Time
	if s := os.Getenv("LADE_SOAK"); s != "" {
		lasts, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		end = time.Now().Add(lasts)
	}
	host := ownHost(t)
	other := harness.OtherBuild(t, "laded", "lade-gate")
	e := harness.StartIn(t, host)
	e.Run("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "-p", "127.0.0.1::81,policy=gate", "lade/hello", "sleep", "1000000")
	var loads []*load
	for port, policy := range map[string]string{"80": "dnat", "81": "gate"} {
		echoIn(t, e, "web", ":"+port)
		loads = append(loads, newLoad(policy, host, e.Run("port", "web", port)))
	}
	requests := func() (n int64) {
		for _, l := range loads {
			n += l.requests.Load()
		}
		return n
	}
	version := e.Run("version", "-f", "{{.Server.Version}}")
	builds := [2]string{e.Bin, other}
	restarts := 0
	for i := 0; (i < 10 || time.Now().Before(end)) && !t.Failed(); i++ {
		restarts++
		before := requests()
		switch i % 4 {
		case 0:
			e.Stop()
		case 3:
			if err := syscall.Kill(e.Supervisor(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			fallthrough
		default:
			e.Kill()
		}
		e.Bin = builds[i/2%2]
		e.Launch()
		if got := e.Run("version", "-f", "{{.Server.Version}}"); (got == version) != (e.Bin == builds[0]) {
			t.Errorf("version %s from %s, and %s at first", got, e.Bin, version)
		}
		// There were clients while it was away, and are now that it is back.
		need.Eventually(t, "clients are served", func() bool { return requests() >= before+200 })
	}
	for _, l := range loads {
		requests, err := l.end()
		t.Logf("%s: %d requests in %d restarts", l.what, requests, restarts)
		if err != nil {
			t.Errorf("requests over restarts: %v", err)
		}
	}
	if got := e.Run("inspect", "-f", "{{.State.Status}} {{.RestartCount}}", "web"); got != "running 0" {
		t.Errorf("the container: %s", got)
	}
	e.Bin = builds[0]
}
