package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lade/internal/linux/netns"
	"lade/internal/need"
	"lade/test/harness"
)

// load connects to an address again and again, some hundred times a second, and
// keeps one connection all the while.
type load struct {
	what, addr string
	stop       chan struct{}
	wg         sync.WaitGroup
	requests   atomic.Int64

	mu   sync.Mutex
	errs []error
}

func newLoad(what, addr string) *load {
	l := &load{what: what, addr: addr, stop: make(chan struct{})}
	const at, every = 4, 8 * time.Millisecond // 500 a second
	for range at {
		l.wg.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for {
				select {
				case <-l.stop:
					return
				case <-tick.C:
					l.note(l.once())
				}
			}
		})
	}
	l.wg.Go(func() {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			l.note(err)
			return
		}
		defer c.Close()
		for {
			select {
			case <-l.stop:
				return
			case <-time.After(10 * time.Millisecond):
				l.note(say(c))
			}
		}
	})
	return l
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
		t.Cleanup(func() { s.Close() })
		go func() {
			for {
				c, err := s.Accept()
				if err != nil {
					return
				}
				go func() {
					io.Copy(c, c)
					c.Close()
				}()
			}
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRestartsUnderLoad: clients of published ports, by either policy, notice
// nothing of ten restarts of the daemon: in order, by kill -9, with another build.
// LADE_SOAK says for how long it goes on after that.
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
	other := harness.OtherBuild(t, "laded", "lade-gate")
	e := harness.Start(t, harness.Apart()...)
	e.Run("run", "-d", "--name", "web", "-p", "127.0.0.1:"+harness.FreePort(t)+":80", "-p", "127.0.0.1::81,policy=gate", "lade/hello", "sleep", "1000")
	var loads []*load
	for port, policy := range map[string]string{"80": "dnat", "81": "gate"} {
		echoIn(t, e, "web", ":"+port)
		loads = append(loads, newLoad(policy, e.Run("port", "web", port)))
	}
	version := e.Run("version", "-f", "{{.Server.Version}}")
	builds := [2]string{e.Bin, other}
	restarts := 0
	for i := 0; (i < 10 || time.Now().Before(end)) && !t.Failed(); i++ {
		restarts++
		served := loads[0].requests.Load() + loads[1].requests.Load()
		if i%3 == 0 {
			e.Stop()
		} else {
			e.Kill()
		}
		e.Bin = builds[i/2%2]
		e.Launch()
		if got := e.Run("version", "-f", "{{.Server.Version}}"); (got == version) != (e.Bin == builds[0]) {
			t.Errorf("version %s from %s, and %s at first", got, e.Bin, version)
		}
		// There were clients while it was away, and are now that it is back.
		need.Eventually(t, "clients are served", func() bool { return loads[0].requests.Load()+loads[1].requests.Load() >= served+200 })
	}
	for _, l := range loads {
		requests, err := l.end()
		t.Logf("%s: %d requests in %d restarts", l.what, requests, restarts)
		if err != nil {
			t.Error(err)
		}
	}
	e.Bin = builds[0]
}
