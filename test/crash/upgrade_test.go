package crash

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lade/internal/need"
	"lade/test/harness"
)

// TestUpgrade replaces daemon and supervisor by another build and back, again
// and again, while requests come through a published port, lines are logged and
// streamed, and containers end. LADE_SOAK says for how long (default: four times);
// LADE_OLDER names a directory with the programs of another version, in place of
// the same in another build: make test-older.
func TestUpgrade(t *testing.T) {
	need.Root(t)
	lasts, long := soak(t, 0)
	builds := []string{harness.Bin(t), os.Getenv("LADE_OLDER")}
	if builds[1] == "" {
		builds[1] = harness.OtherBuild(t)
	}
	e := harness.StartFrom(t, builds[0], nil)
	img := e.Import()
	supervisor := e.Supervisor()
	port := harness.FreePort(t)
	e.Run("run", "-d", "--name", "web", "-p", "127.0.0.1:"+port+":80", img, "sh", "-c", "mkdir /www; echo here >/www/page; exec httpd -f -h /www")
	e.Run("run", "-d", "--name", "log", img, "sh", "-c", count)
	soon(t, func() error { return answers(port) })
	attached := begin(t, e, "attach", "--no-stdin", "--sig-proxy=false", "log")
	under := begin(t, e, "exec", "log", "sh", "-c", count)
	under.line(t)

	stop := make(chan struct{})
	var asked atomic.Int64
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := answers(port); err != nil {
					t.Errorf("request %d: %v", asked.Load(), err)
					return
				}
				asked.Add(1)
			}
		})
	}
	streams := make(chan string, 2)
	for _, c := range []*command{attached, under} {
		go func() {
			var all strings.Builder
			_, _ = c.out.WriteTo(&all) // until the end of the stream
			streams <- all.String()
		}()
	}
	end := time.Now().Add(lasts)
	n := 0
	for ; (n < 4 || long && time.Now().Before(end)) && !t.Failed(); n++ {
		name := fmt.Sprint("ends", n)
		e.Run("run", "-d", "--name", name, "--restart", "on-failure:1", img, "sh", "-c", fmt.Sprintf("usleep %d; echo bye; exit %d", n%7*50_000, 3+n%100))
		last := e.Run("info", "--format", "{{.ServerVersion}}")
		e.Bin = builds[(n+1)%2]
		if n%3 == 2 {
			e.Kill()
		} else {
			e.Stop()
		}
		e.Launch()
		if now := e.Run("info", "--format", "{{.ServerVersion}}"); now == last {
			t.Fatalf("still %s", now)
		}
		if pid := e.Supervisor(); pid != supervisor {
			t.Fatalf("the supervisor is process %d, and was %d", pid, supervisor)
		}
		soon(t, func() error { // its own word; the log is that of laded and the supervisor
			out, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", supervisor))
			if err == nil && !bytes.Contains(out, []byte(e.Bin+"/lade-supervisor")) {
				err = fmt.Errorf("the supervisor's program is not that of %s", e.Bin)
			}
			return err
		})
		becomes(t, e, name, ".State.Status", "exited")
		becomes(t, e, name, ".RestartCount", "1")
		becomes(t, e, name, ".State.ExitCode", fmt.Sprint(3+n%100))
		if got := e.Run("logs", name); got != "bye\nbye" {
			t.Errorf("%s: logged %q", name, got)
		}
		e.Run("rm", name)
	}
	close(stop)
	clients.Wait()
	e.Run("stop", "-t", "0", "log")
	for range 2 {
		if lines := unbroken(t, "stream", <-streams); lines < 10*n {
			t.Errorf("a stream ended after %d lines", lines)
		}
	}
	if got := unbroken(t, "log", e.Run("logs", "log")); got < 10*n {
		t.Errorf("%d lines logged", got)
	}
	t.Logf("%d upgrades, %d requests", n, asked.Load())
}

// soak returns how long a test goes on when LADE_SOAK does not say otherwise,
// and whether it does.
func soak(t *testing.T, short time.Duration) (lasts time.Duration, long bool) {
	t.Helper()
	s := os.Getenv("LADE_SOAK")
	if s == "" {
		return short, false
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d, true
}
