package bench

import (
	"os"
	"path/filepath"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// TestClient measures the client as people wait for it: as a process. Both
// clients ask the same engine, one after the other.
func TestClient(t *testing.T) {
	if os.Getenv("LADE_BENCH") == "" {
		t.Skip("make bench runs it")
	}
	docker := need.Program(t, "docker", "Debian's docker-cli")
	e := harness.Start(t)
	lade := filepath.Join(e.Bin, "lade")
	e.Run("pull", "-q", "lade/hello")
	inParallel(t, 100, func(int) error { return e.Command(lade, "run", "-d", "lade/hello", "sleep", "1000").Run() })
	took := func(client string, args ...string) float64 {
		return measure(t, 40, func() error { return e.Command(client, args...).Run() }).median()
	}
	limit(t, "lade --version", took(lade, "--version"), 10, "ms")
	limit(t, "lade help", took(lade, "help"), 10, "ms")
	var ours, theirs times // in turns, so that both have the same machine
	for range 40 {
		ours = append(ours, measure(t, 1, func() error { return e.Command(lade, "ps").Run() })...)
		theirs = append(theirs, measure(t, 1, func() error { return e.Command(docker, "ps").Run() })...)
	}
	limit(t, "lade ps, 100 containers", ours.median(), 15, "ms")
	note(t, "docker ps, the same", theirs.median(), "ms")
	limit(t, "lade ps, share of the time of docker ps", ours.median()/theirs.median(), 0.5, "×")
	limit(t, "completion of lade stop, 100 containers", took(lade, "__complete", "stop", ""), 15, "ms")
}
