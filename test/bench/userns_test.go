package bench

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"lade/internal/need"
	"lade/test/harness"
)

// mostForUser is what a run with a user namespace may take, compared with one
// without.
const mostForUser = 1.10

// TestUserns compares lives of containers with and without a user namespace,
// in turns.
func TestUserns(t *testing.T) {
	if os.Getenv("LADE_BENCH") == "" {
		t.Skip("make bench runs it")
	}
	need.Root(t)
	e := harness.Start(t)
	e.Run("import", rootfs(t), image)
	c := connect(t, e)
	modes := []string{"host", "auto"}
	var started, lived [2]times
	const lives = 300
	for i := range lives {
		for m, mode := range modes {
			start, life, err := liveAs(t.Context(), c, mode)
			if err != nil {
				t.Fatal(err)
			}
			if i >= lives/10 {
				started[m], lived[m] = append(started[m], start), append(lived[m], life)
			}
		}
	}
	for m, mode := range modes {
		note(t, "API start, --userns="+mode+", median", started[m].median(), "ms")
		note(t, "  create+start+wait+remove", lived[m].median(), "ms")
	}
	note(t, "API start with --userns=auto, of one without", started[1].median()/started[0].median(), "x")
	limit(t, "  create+start+wait+remove", lived[1].median()/lived[0].median(), mostForUser, "x")
	var commands [2]times
	for range 50 {
		for m, mode := range modes {
			began := time.Now()
			if err := e.Command("lade", "run", "--rm", "--userns", mode, image, "true").Run(); err != nil {
				t.Fatal(err)
			}
			commands[m] = append(commands[m], time.Since(began))
		}
	}
	limit(t, "lade run --rm IMAGE true, the same", commands[1].median()/commands[0].median(), mostForUser, "x")
}

// liveAs runs a container and returns how long its start, and its life, took.
func liveAs(ctx context.Context, c *client.Client, userns string) (start, life time.Duration, err error) {
	began := time.Now()
	r, err := c.ContainerCreate(ctx, client.ContainerCreateOptions{
		Config: &container.Config{Image: image, Cmd: []string{"true"}},
		HostConfig: &container.HostConfig{
			UsernsMode: container.UsernsMode(userns), Resources: container.Resources{Memory: 256 << 20, NanoCPUs: 1e9, PidsLimit: ptr(int64(100))},
		},
	})
	if err != nil {
		return 0, 0, err
	}
	created := time.Now()
	if _, err := c.ContainerStart(ctx, r.ID, client.ContainerStartOptions{}); err != nil {
		return 0, 0, err
	}
	start = time.Since(created)
	w := c.ContainerWait(ctx, r.ID, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	select {
	case err := <-w.Error:
		return 0, 0, err
	case <-w.Result:
	}
	_, err = c.ContainerRemove(ctx, r.ID, client.ContainerRemoveOptions{})
	return start, time.Since(began), err
}
