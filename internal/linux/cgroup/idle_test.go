package cgroup

import (
	"errors"
	"testing"

	"lade/internal/errdefs"
)

// A group goes with those below it when no process is left in any of them, and
// not before; a process in one of those below holds it, too.
func TestDeleteIdle(t *testing.T) {
	versions(t, func(t *testing.T, h *Host) {
		for _, where := range []string{"", "/below"} {
			g := create(t, h, nil)
			below, err := h.Create(g.Path()+"/below", nil)
			if err != nil {
				t.Fatal(err)
			}
			in := g
			if where != "" {
				in = below
			}
			background(t, in, "echo ready; exec sleep 100")
			if gone, err := g.DeleteIdle(); gone || err != nil {
				t.Errorf("with a process in it%s: %v, %v", where, gone, err)
			}
			if pids, err := in.Pids(); err != nil || len(pids) != 1 {
				t.Errorf("its processes afterwards: %v, %v", pids, err)
			}
			if err := g.Kill(t.Context()); err != nil {
				t.Fatal(err)
			}
			for range 2 { // twice: idempotent
				// The last process may still be on its way out.
				gone, err := g.DeleteIdle()
				if err == nil && !gone {
					err = g.Delete(t.Context())
				}
				if err != nil {
					t.Error(err)
				}
			}
			if _, err := h.Open(g.Path()); !errors.Is(err, errdefs.NotFound) {
				t.Errorf("afterwards: %v", err)
			}
		}
		g := create(t, h, nil)
		if _, err := h.Create(g.Path()+"/below", nil); err != nil {
			t.Fatal(err)
		}
		if gone, err := g.DeleteIdle(); !gone || err != nil {
			t.Errorf("of an empty group: %v, %v", gone, err)
		}
	})
}
