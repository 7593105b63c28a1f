package container

import (
	"context"
	"errors"
	"time"

	"github.com/moby/moby/api/types/events"

	"lade/internal/errdefs"
	"lade/internal/failpoint"
)

// Restart is Stop, if the container runs, and Start. One that removes itself when it
// ends does not do so in between: it has the files then that it had, as what a
// volatile overlay holds is in the page cache for as long as this kernel runs. ctx
// cancels neither half. Errors: those of Stop and Start but NotModified.
//
// Should the daemon end between the two, the next one finds a container that has
// ended and removes itself, and removes it: nobody waits for the answer any more,
// and the record does not tell this end from the last one.
func (a *Actor) Restart(ctx context.Context, signal int, timeout time.Duration) error {
	ctx = context.WithoutCancel(ctx)
	if err := a.stop(ctx, signal, timeout, forRestart); err != nil && errdefs.KindOf(err) != errdefs.NotModified {
		return errors.Join(err, a.unkeep(ctx))
	}
	failpoint.Hit("container.restart")
	if err := a.Start(ctx); err != nil && errdefs.KindOf(err) != errdefs.NotModified {
		return err
	}
	a.host.Publish(a.View(), events.ActionRestart, nil)
	return nil
}

// unkeep lets a container remove itself that could not be stopped to be started
// again: at its end, or now.
func (a *Actor) unkeep(ctx context.Context) error {
	return a.call(ctx, func(reply func(error)) {
		a.idle(func() {
			a.kept = false
			if a.rec.State == Exited && a.rec.HostConfig.AutoRemove {
				a.autoRemove()
			}
			reply(nil)
		})
	})
}
