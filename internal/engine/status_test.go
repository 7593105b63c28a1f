package engine

import (
	"math/rand/v2"
	"testing"
	"time"

	"lade/internal/engine/container"
)

// TestStatusUntil: the words for a time are the same until the moment that is
// named, and are not asked for again much sooner than they change.
func TestStatusUntil(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	start := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	rec := &container.Record{State: container.Running, StartedAt: start}
	for _, most := range []time.Duration{3 * time.Second, 2 * time.Minute, 2 * time.Hour, 100 * time.Hour, 3 * 365 * 24 * time.Hour} {
		for range 2000 {
			now := start.Add(time.Duration(r.Int64N(int64(most))) - time.Second)
			text, until := status(rec, now)
			if !until.After(now) || until.Sub(now) > 30*time.Minute {
				t.Fatalf("after %s: %s until %s later", now.Sub(start), text, until.Sub(now))
			}
			// The words come from hours in floating point, which ends before nanoseconds do.
			for _, then := range []time.Time{now.Add(time.Duration(r.Int64N(int64(until.Sub(now))))), until.Add(-time.Microsecond)} {
				if then.Before(now) {
					continue
				}
				later, again := status(rec, then)
				if later != text || !again.Equal(until) && !now.Before(start) {
					t.Fatalf("after %s: %s; after %s: %s until %s", now.Sub(start), text, then.Sub(start), later, again.Sub(start))
				}
			}
		}
	}
	if text, until := status(&container.Record{}, start); text != "Created" || !until.IsZero() {
		t.Errorf("%s until %s", text, until)
	}
}
