package events

import (
	"slices"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"
)

// TestClockSetUntil: a message of the time when the clock was ahead hides none of
// those after it.
func TestClockSetUntil(t *testing.T) {
	var l Log
	now := time.Now()
	for _, at := range []time.Duration{-3 * time.Minute, time.Hour, -2 * time.Minute, -time.Second} {
		l.add(events.Message{Type: events.ContainerEventType, Action: "start", TimeNano: now.Add(at).UnixNano()})
	}
	seq, err := l.Subscribe(t.Context(), Query{Since: now.Add(-time.Hour), Until: now.Add(-time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	var got []time.Duration
	for m, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, time.Unix(0, m.TimeNano).Sub(now))
	}
	if want := []time.Duration{-3 * time.Minute, -2 * time.Minute}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestClockSet: times rise while the clock stands still, and follow it when
// somebody sets it.
func TestClockSet(t *testing.T) {
	const hour, year = int64(time.Hour), 365 * 24 * int64(time.Hour)
	now := time.Now().UnixNano()
	for _, c := range []struct {
		what            string
		last, now, want int64
	}{
		{"the first", 0, now, now},
		{"the next", now, now + 5, now + 5},
		{"the same moment", now, now, now + 1},
		{"behind times that rose", now + 1000, now, now + 1001},
		{"a year forward", now, now + year, now + year},
		{"an hour back", now, now - hour, now - hour},
		{"back from the year", now + year, now, now},
	} {
		if got := stampAfter(c.last, c.now); got != c.want {
			t.Errorf("%s: %d after the present, want %d", c.what, got-c.now, c.want-c.now)
		}
	}
}
