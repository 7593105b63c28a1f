package need

import (
	"testing"
	"time"
)

// Eventually waits until something is so of which nobody tells, and fails the test
// with what it is when it is not within Patience of 30 seconds.
func Eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	end := time.Now().Add(Patience(30 * time.Second))
	for pause := time.NewTicker(10 * time.Millisecond); !so(); <-pause.C {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
