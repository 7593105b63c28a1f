package e2e

import (
	"strings"
	"testing"
	"time"

	"lade/internal/need"
	"lade/test/harness"
)

// TestHealthGoesOn kills the daemon under a container whose health is checked:
// the status is still known, and the checks go on.
func TestHealthGoesOn(t *testing.T) {
	e := harness.Start(t)
	e.Run("run", "-d", "--name", "hc", "--health-cmd", "test ! -e /bad", "--health-interval", "100ms", "--health-retries", "1", "lade/hello", "sleep", "1000")
	until(t, e, "healthy", "inspect", "-f", "{{.State.Health.Status}}", "hc")
	e.Kill()
	e.Launch()
	if got := e.Run("inspect", "-f", "{{.State.Health.Status}}", "hc"); got != "healthy" {
		t.Errorf("after a restart: %s", got)
	}
	e.Run("exec", "hc", "touch", "/bad")
	until(t, e, "unhealthy", "inspect", "-f", "{{.State.Health.Status}}", "hc")
}

// until runs lade until it prints what is wanted.
func until(t *testing.T, e *harness.Engine, want string, args ...string) {
	t.Helper()
	var got string
	for end := time.Now().Add(need.Patience(10 * time.Second)); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if got, _, _ = e.Try(args...); strings.TrimSpace(got) == want {
			return
		}
	}
	t.Fatalf("lade %s: %q, want %q", strings.Join(args, " "), got, want)
}
