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
	for end := time.Now().Add(need.Patience(30 * time.Second)); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
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
	// The other ways to say what becomes of it.
	again := func(name, action string) string {
		e.Run("run", "-d", "--name", name, "--health-on-failure", action, "--health-cmd", "test ! -e /bad", "--health-interval", "100ms", "--health-retries", "1", "--init", "lade/hello", "sleep", "1000")
		return e.Run("inspect", "-f", "{{.State.StartedAt}}", name)
	}
	kept, renewed := again("kept", "none"), again("renewed", "restart")
	e.Run("exec", "kept", "touch", "/bad")
	e.Run("exec", "renewed", "touch", "/bad")
	until(t, e, "running unhealthy", "inspect", "-f", "{{.State.Status}} {{.State.Health.Status}}", "kept")
	need.Eventually(t, "the unhealthy container is restarted", func() bool {
		return e.Run("inspect", "-f", "{{.State.StartedAt}}", "renewed") != renewed
	})
	if got := e.Run("inspect", "-f", "{{.State.StartedAt}}", "kept"); got != kept {
		t.Error("a container that was to be left alone was restarted")
	}
	if _, errOut, code := e.Try("run", "--health-on-failure", "nope", "lade/hello"); code != 125 || !strings.Contains(errOut, "must be one of none, kill, restart, stop") {
		t.Errorf("an action that there is not, exit code and words: %d %s", code, errOut)
	}
	e.Run("rm", "-f", "kept", "renewed")
	e.Run("update", "--restart", "no", "hc")
	e.Run("stop", "hc")
	if _, errOut, code := e.Try("update", "--restart", "on-unhealthy:-1", "hc"); code == 0 || !strings.Contains(errOut, "maximum retry count cannot be negative") {
		t.Errorf("a negative count of restarts, exit code and words: %d %s", code, errOut)
	}
}
