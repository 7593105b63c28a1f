package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lade/internal/need"
	"lade/test/harness"
)

// TestHistories lets several clients make random requests, kills the daemon,
// the supervisor or both at random moments, and compares what is with what was
// acknowledged. LADE_SOAK says for how long (default 45s), LADE_SEED repeats a
// run as far as timing allows.
func TestHistories(t *testing.T) {
	need.Root(t)
	lasts, _ := soak(t, 45*time.Second)
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("LADE_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("LADE_SEED=%d", seed)
	e := harness.Start(t)
	base := e.Import()
	end := time.Now().Add(lasts)
	players := make([]*player, 4)
	var wg sync.WaitGroup
	for i := range players {
		p := newPlayer(t, e, fmt.Sprintf("p%d-", i), seed+uint64(i))
		players[i] = p
		wg.Go(func() {
			for time.Now().Before(end) && !t.Failed() {
				p.play(base)
			}
		})
	}
	rnd := rand.New(rand.NewPCG(seed, 99))
	kills := map[string]int{}
	for time.Now().Before(end) && !t.Failed() {
		time.Sleep(time.Duration(rnd.IntN(700)) * time.Millisecond)
		who := []string{"daemon", "supervisor", "both"}[rnd.IntN(3)]
		if who != "daemon" {
			if pid := e.Supervisor(); pid != 0 {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may be ending by itself
			}
		}
		if who != "supervisor" {
			e.Kill()
			time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond)
			for rnd.IntN(3) == 0 { // killed while it recovers
				e.Flash(time.Duration(rnd.IntN(150)) * time.Millisecond)
				kills["recovery"]++
			}
			e.Launch()
		}
		kills[who]++
	}
	wg.Wait()
	requests := 0
	for _, p := range players {
		p.clean()
		requests += len(p.history)
	}
	e.Run("rmi", base)
	for _, what := range []string{"ps -aq", "volume ls -q", "images -aq"} {
		if out := e.Run(strings.Fields(what)...); out != "" {
			t.Errorf("%s: %s", what, out)
		}
	}
	t.Logf("%d requests, killed: %v", requests, kills)
}
