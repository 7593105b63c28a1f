package crash

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"lade/internal/need"
	"lade/test/harness"
)

// TestStopBesideExecs stops containers without patience while execs are being
// started in them, which join a control group that is being killed. No stop may
// wait for a time-out of ours (ten seconds) instead of for the end.
func TestStopBesideExecs(t *testing.T) {
	const each = 12 // stops of a container
	e := harness.Start(t, harness.Apart()...)
	img := e.Import()
	c := api(t, e)
	zero := 0
	var containers sync.WaitGroup
	for name, more := range map[string][]string{"own": nil, "init": {"--init"}, "host": {"--pid", "host"}} {
		e.Run(append(append([]string{"create", "--name", name, "--network", "none"}, more...), img, "sleep", "1000")...)
		ctx, stopped := context.WithCancel(t.Context())
		var execs sync.WaitGroup
		for range 2 {
			execs.Go(func() {
				for ctx.Err() == nil { // whether one comes too late does not matter
					x, err := c.ExecCreate(ctx, name, client.ExecCreateOptions{Cmd: []string{"sleep", "1000"}})
					if err == nil {
						_, _ = c.ExecStart(ctx, x.ID, client.ExecStartOptions{Detach: true})
					}
				}
			})
		}
		containers.Go(func() {
			defer execs.Wait()
			defer stopped()
			for range each {
				if _, err := c.ContainerStart(ctx, name, client.ContainerStartOptions{}); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				if err := haveExec(ctx, c, name); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				began := time.Now()
				if _, err := c.ContainerStop(ctx, name, client.ContainerStopOptions{Timeout: &zero}); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				if took := time.Since(began); took > need.Patience(9*time.Second) {
					t.Errorf("%s: stopped after %s", name, took)
				}
			}
		})
	}
	containers.Wait()
	for _, name := range []string{"own", "init", "host"} {
		wants(t, e, name, ".State.Status", string(container.StateExited))
	}
	// The harness looks for control groups, and so for execs that outlived theirs.
}

// haveExec waits until an exec runs in a container.
func haveExec(ctx context.Context, c *client.Client, name string) error {
	for end := time.Now().Add(need.Patience(30 * time.Second)); time.Now().Before(end); {
		x, err := c.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
		if err != nil {
			return err
		}
		if len(x.Container.ExecIDs) > 0 {
			return nil
		}
	}
	return fmt.Errorf("no exec begins")
}
