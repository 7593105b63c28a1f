package events

import (
	"testing"
	"time"
)

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
