package server

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/ids"
	"lade/internal/supervisor"
	"lade/internal/supervisor/wire"
)

// TestBurst ends very many processes in the same moment, while no daemon listens,
// and then while one does: each end is told once, with its code, and the
// supervisor answers meanwhile. They are execs, which need one descriptor each.
// 10,000 with LADE_SOAK, else 200.
func TestBurst(t *testing.T) {
	n := 200
	if os.Getenv("LADE_SOAK") != "" {
		n = 10_000
	}
	for _, connected := range []bool{false, true} {
		t.Run(fmt.Sprint("connected ", connected), func(t *testing.T) {
			e := inProcess(t, nil)
			gate := filepath.Join(e.root, "gate")
			if err := unix.Mkfifo(gate, 0o600); err != nil {
				t.Fatal(err)
			}
			id, _ := e.start("sleep 1000", nil)
			execs := make([]string, n)
			var work sync.WaitGroup
			for c := range 4 {
				work.Go(func() {
					for i := c; i < n; i += 4 {
						execs[i] = ids.New()
						s, err := e.client.Exec(t.Context(), &wire.Exec{ID: id, ExecID: execs[i], Process: &specs.Process{
							Args: []string{"sh", "-c", fmt.Sprintf("read x <%s; exit %d", gate, i%256)},
						}})
						if err != nil {
							t.Error(err)
							return
						}
						s.Close()
					}
				})
			}
			work.Wait()
			if t.Failed() {
				return
			}
			if !connected {
				e.client.Close()
			}
			// It opens when all have it open, as far as they are.
			open, err := os.OpenFile(gate, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			for range n {
				if _, err := open.WriteString("\n"); err != nil {
					t.Fatal(err)
				}
			}
			defer open.Close()
			code := func(exec string) (int, bool) {
				x, told := e.events.got[key{id, exec}]
				return x.Code, told
			}
			if connected {
				for range 20 { // it answers while it reaps
					if err := e.client.PutFilter(t.Context(), &wire.PutFilter{Digest: "sha256:none"}); err == nil {
						t.Error("a filter that is none was taken")
					}
				}
				e.events.until("all ends", func() bool { return e.events.n >= n })
				if e.events.n != n {
					t.Errorf("%d ends of %d were told", e.events.n, n)
				}
			} else {
				told := map[string]int{}
				for len(told) < n { // Welcome tells what is known, until all have ended
					client, w, err := supervisor.Connect(t.Context(), supervisor.Options{Root: e.root})
					if err != nil {
						t.Fatal(err)
					}
					client.Close()
					for _, x := range w.Exits {
						told[x.ExecID] = x.Code
					}
				}
				code = func(exec string) (int, bool) { c, ok := told[exec]; return c, ok }
			}
			for i, exec := range execs {
				if got, told := code(exec); !told || got != i%256 {
					t.Fatalf("process %d ended with %d (told: %t), want %d", i, got, told, i%256)
				}
			}
		})
	}
}
