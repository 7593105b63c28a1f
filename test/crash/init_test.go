package crash

import (
	"fmt"
	"testing"

	"github.com/moby/moby/client"

	"lade/test/harness"
)

// TestInitStopped stops containers with --init the moment that they have
// started: the signal reaches the command, however early it comes.
func TestInitStopped(t *testing.T) {
	for name, flags := range harness.Runtimes(t) {
		starts := 10 // they take longer
		if name == "own" {
			starts = 100
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			initStopped(t, starts, append(flags, harness.Apart()...)...)
		})
	}
}

func initStopped(t *testing.T, starts int, flags ...string) {
	e := harness.Start(t, flags...)
	img := e.Import()
	c := api(t, e)
	e.Run("create", "--name", "early", "--init", "--network", "none", img, "sleep", "1000")
	patience := 20
	codes := map[string]int{}
	for range starts {
		if _, err := c.ContainerStart(t.Context(), "early", client.ContainerStartOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ContainerStop(t.Context(), "early", client.ContainerStopOptions{Timeout: &patience}); err != nil {
			t.Fatal(err)
		}
		x, err := c.ContainerInspect(t.Context(), "early", client.ContainerInspectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		codes[fmt.Sprint(x.Container.State.ExitCode)]++
	}
	if codes["143"] != starts { // 137: the signal was lost; 2: it hit the Go runtime
		t.Errorf("exit codes and how often they were: %v", codes)
	}
	// What comes by default reaches the command unblocked.
	if got := e.Run("run", "--rm", "--init", "--network", "none", img, "grep", "SigBlk", "/proc/self/status"); got != "SigBlk:\t0000000000000000" {
		t.Errorf("the command begins with %q", got)
	}
}
