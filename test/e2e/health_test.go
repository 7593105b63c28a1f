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

// TestOnUnhealthy lets a policy start an unhealthy container again, as often as
// it says, however well its process ends.
func TestOnUnhealthy(t *testing.T) {
	e := harness.Start(t)
	e.Run("run", "-d", "--name", "hc", "--restart", "on-unhealthy:2", "--health-cmd", "test ! -e /bad", "--health-interval", "100ms", "--health-retries", "1",
		"lade/hello", "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done")
	until(t, e, "healthy", "inspect", "-f", "{{.State.Health.Status}}", "hc")
	e.Run("exec", "hc", "touch", "/bad")
	until(t, e, "2 running unhealthy", "inspect", "-f", "{{.RestartCount}} {{.State.Status}} {{.State.Health.Status}}", "hc")
	if got := e.Run("inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", "hc"); got != "on-unhealthy" {
		t.Error(got)
	}
	e.Run("update", "--restart", "no", "hc")
	e.Run("stop", "hc")
	if _, errOut, code := e.Try("update", "--restart", "on-unhealthy:-1", "hc"); code == 0 || !strings.Contains(errOut, "maximum retry count cannot be negative") {
		t.Errorf("%d %s", code, errOut)
	}
}
