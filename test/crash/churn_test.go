package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lade/internal/need"
	"lade/test/harness"
)

// lives is how many containers TestChurn makes, if the time is enough.
const lives = 10_000

// footprint is what a process holds. Memory is what it has allocated: its part of
// the program's pages depends on how many others of that program run on the machine.
type footprint struct {
	kB, fds, threads int
}

func footprintOf(t *testing.T, pid int) (f footprint) {
	t.Helper()
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	fds, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	threads, err := os.ReadDir(filepath.Join(dir, "task"))
	if err != nil {
		t.Fatal(err)
	}
	rollup, err := os.ReadFile(filepath.Join(dir, "smaps_rollup"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(rollup), "\nPss_Anon:")
	kB, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return footprint{kB, len(fds), len(threads)}
}

// TestChurn has 10,000 containers live and die in all the ways that there are,
// and looks at what both processes hold meanwhile: that must not grow. It stops
// early after LADE_SOAK, without which it does not run: make soak.
func TestChurn(t *testing.T) {
	lasts, long := soak(t, 0)
	if !long {
		t.Skip("make soak runs it")
	}
	need.Root(t)
	e := harness.Start(t)
	img := e.Import()
	e.Run("network", "create", "churn")
	e.Run("run", "-d", "--name", "stays", "--network", "churn", "--health-cmd", "true", "--health-interval", "1s", img, "sh", "-c", count)
	supervisor := e.Supervisor()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)

	ways := []func(name string){
		func(name string) { e.Run("run", "--rm", "--name", name, img, "true") },
		func(name string) {
			e.Run("run", "-d", "--name", name, "-m", "64m", "-v", "/data", img, "sh", "-c", "echo begun; sleep 1000")
			e.Run("exec", name, "sh", "-c", "echo exec >/data/x")
			e.Run("stop", "-t", "0", name)
			e.Run("start", name)
			e.Run("logs", name)
			e.Run("rm", "-f", "-v", name)
		},
		func(name string) {
			e.Run("run", "-d", "--rm", "--name", name, "--network", "churn", "-p", "127.0.0.1::80", "--log-driver", "local", img, "sleep", "1000")
			e.Run("kill", name)
			_, _, _ = e.Try("wait", name) // it may be removed already
		},
		func(name string) {
			if out, _, code := e.Try("run", "--name", name, "--restart", "on-failure:1", img, "sh", "-c", "exit 7"); code != 7 {
				t.Errorf("%s: exit code %d, %s", name, code, out)
			}
			e.Run("rm", "-f", name)
		},
		func(name string) {
			if _, _, code := e.Try("run", "--rm", "--name", name, img, "/not/there"); code != 127 {
				t.Errorf("%s: exit code %d", name, code)
			}
		},
	}
	end := time.Now().Add(lasts)
	var made atomic.Int64
	part := func(n int) {
		var clients sync.WaitGroup
		for c := range 4 {
			rnd := rand.New(rand.NewPCG(seed, uint64(made.Load())+uint64(c)))
			clients.Go(func() {
				for range n / 4 {
					if t.Failed() || time.Now().After(end) {
						return
					}
					ways[rnd.IntN(len(ways))](fmt.Sprint("churn", made.Add(1)))
				}
			})
		}
		clients.Wait()
	}
	// What is kept for later, caches and pools, is there after the first hundreds.
	part(lives / 20)
	held := func() (daemon, sup footprint) {
		time.Sleep(5 * time.Second) // both give memory back when they have been quiet
		return footprintOf(t, e.Pid()), footprintOf(t, supervisor)
	}
	d0, s0 := held()
	t.Logf("after %5d lives: laded %+v, supervisor %+v", made.Load(), d0, s0)
	for made.Load() < lives && time.Now().Before(end) && !t.Failed() {
		part(lives / 10)
		d, s := held()
		t.Logf("after %5d lives: laded %+v, supervisor %+v", made.Load(), d, s)
		for _, p := range []struct {
			who       string
			was, is   footprint
			kB, other int // what may come in addition
		}{{"laded", d0, d, 8 << 10, 16}, {"the supervisor", s0, s, 1 << 10, 8}} {
			if p.is.kB > p.was.kB+p.kB || p.is.fds > p.was.fds+p.other || p.is.threads > p.was.threads+p.other {
				t.Errorf("%s grows: %+v, and was %+v", p.who, p.is, p.was)
			}
		}
	}
	wants(t, e, "stays", ".State.Health.Status", "healthy")
	unbroken(t, "log", e.Run("logs", "stays"))
	e.Run("rm", "-f", "stays")
	e.Run("network", "rm", "churn")
	if out := e.Run("ps", "-aq"); out != "" {
		t.Errorf("left: %s", out)
	}
	t.Logf("%d lives", made.Load())
}
