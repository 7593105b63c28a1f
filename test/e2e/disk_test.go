package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"lade/internal/need"
	"lade/test/harness"
)

// TestDiskPolicy: without a policy nothing is removed, and info says so; with one
// that no disk meets everything goes that may.
func TestDiskPolicy(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "docker-cli")
	e := harness.Start(t)
	img := e.Import()
	said := func() string {
		t.Helper()
		out, err := e.Command("docker", "info").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	if !strings.Contains(said(), "Disk Policy: off") {
		t.Errorf("info:\n%s", said())
	}
	if _, msg, code := e.Try("system", "reclaim"); code != 1 || !strings.Contains(msg, "there is no policy for the disk") {
		t.Errorf("%d: %s", code, msg)
	}
	e.Stop()
	if err := os.WriteFile(filepath.Join(e.Dir, "daemon.json"), []byte(`{"disk":{"high-water":"2%","low-water":1,"protect-labels":["keep"]}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	e.Launch()
	if !strings.Contains(said(), "Disk Policy: above 2 % used, down to 1 %, keeps keep") {
		t.Errorf("info:\n%s", said())
	}
	e.Run("run", "--name", "ended", img, "true")
	e.Run("run", "--name", "kept", "--label", "keep", img, "true")
	e.Run("run", "-d", "--name", "runs", img, "sleep", "1000")
	e.Run("commit", "ended", "spare")
	if out := e.Run("system", "reclaim", "--dry-run"); !strings.Contains(out, "container ended, last used") || !strings.Contains(out, "image spare:latest") ||
		strings.Contains(out, "kept") || strings.Contains(out, "runs") || strings.Contains(out, img) || !strings.Contains(out, "Would reclaim") {
		t.Errorf("dry run:\n%s", out)
	}
	if got := e.Run("ps", "-aq", "--filter", "name=ended"); got == "" {
		t.Error("a dry run removed something")
	}
	if out := e.Run("system", "reclaim"); !strings.Contains(out, "container ended") {
		t.Errorf("reclaim:\n%s", out)
	}
	if got := e.Run("ps", "-a", "--format", "{{.Names}}"); got != "runs\nkept" {
		t.Errorf("left: %q", got)
	}
	if got := e.Run("images", "-q"); strings.Count(got, "\n") != 0 {
		t.Errorf("images: %q", got)
	}
	out := e.Run("events", "--since", "1h", "--until", strconv.FormatInt(time.Now().Unix()+1, 10), "--filter", "type=daemon", "--format", "{{.Action}} {{.Actor.Attributes.reason}} {{.Actor.Attributes.containers}} {{.Actor.Attributes.images}}")
	if !strings.Contains(out, "prune disk policy 1 1") {
		t.Errorf("events: %q", out)
	}
	e.Run("rm", "-f", "runs", "kept")
}
