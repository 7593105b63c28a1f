package health

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestRhythm checks that a check is due an interval after the end of the one
// before, that a slow one delays no other, and that a forgotten one is cut off.
func TestRhythm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var quick, slow, cut atomic.Int32
		m := New(ctx, func(ctx context.Context, id string) time.Duration {
			switch id {
			case "quick":
				quick.Add(1)
				return time.Second
			case "slow":
				slow.Add(1)
				time.Sleep(9 * time.Second)
				return time.Second
			case "once":
				return -1
			}
			<-ctx.Done()
			cut.Add(1)
			return time.Second
		})
		for _, id := range []string{"quick", "slow", "stuck", "once", "never"} {
			m.Watch(id, time.Second)
		}
		m.Forget("never")
		m.Forget("nobody")
		time.Sleep(30*time.Second + time.Millisecond)
		if quick.Load() != 30 || slow.Load() != 3 || cut.Load() != 0 {
			t.Errorf("quick %d, slow %d, cut %d", quick.Load(), slow.Load(), cut.Load())
		}
		m.Forget("stuck")
		synctest.Wait()
		if cut.Load() != 1 {
			t.Error("a forgotten check goes on")
		}
		m.Watch("quick", time.Hour)
		time.Sleep(time.Minute)
		if quick.Load() != 30 {
			t.Error("a container that is watched anew keeps its old rhythm")
		}
		cancel()
		m.Wait()
		m.Watch("quick", 0)
		m.Forget("quick")
		time.Sleep(time.Minute)
		if quick.Load() != 30 {
			t.Error("a check was begun after the end")
		}
	})
}

// TestTogether checks that one wake-up runs the checks that are nearly due, too, and
// none that is early by more than a part of its interval.
func TestTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		var mu sync.Mutex
		at := map[string]time.Duration{}
		m := New(ctx, func(_ context.Context, id string) time.Duration {
			mu.Lock()
			defer mu.Unlock()
			at[id] = time.Since(begin)
			return -1
		})
		for id, after := range map[string]time.Duration{
			"first": 3200 * time.Millisecond, "with it": 3299 * time.Millisecond, "too early": 3310 * time.Millisecond,
			"slow": 60 * time.Second, "with slow": 60250 * time.Millisecond, "after slow": 60251 * time.Millisecond,
		} {
			m.Watch(id, after)
		}
		time.Sleep(2 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		for id, want := range map[string]time.Duration{
			"first": 3200 * time.Millisecond, "with it": 3200 * time.Millisecond, "too early": 3310 * time.Millisecond,
			"slow": 60 * time.Second, "with slow": 60 * time.Second, "after slow": 60251 * time.Millisecond,
		} {
			if at[id] != want {
				t.Errorf("%s was checked after %s, not %s", id, at[id], want)
			}
		}
		cancel()
		m.Wait() // nothing is checked any more that would wait for mu
	})
}

// TestIdle checks that checks to come cost no goroutines.
func TestIdle(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m := New(ctx, func(context.Context, string) time.Duration { return time.Hour })
	before := runtime.NumGoroutine()
	for i := range 1000 {
		m.Watch(fmt.Sprint(i), time.Hour)
	}
	if n := runtime.NumGoroutine() - before; n > 2 {
		t.Errorf("%d goroutines for idle checks", n)
	}
	cancel()
	m.Wait()
}

func BenchmarkDue(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	m := New(ctx, nil)
	for i := range 1000 {
		m.Watch(fmt.Sprint(i), time.Hour)
	}
	for b.Loop() {
		m.Watch("500", time.Minute)
	}
	cancel()
	m.Wait()
}
