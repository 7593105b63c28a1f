package container

import (
	"context"

	"github.com/moby/moby/api/types/events"

	"lade/internal/errdefs"
)

// Remove deletes the container; force kills it first if it runs. volumes
// deletes its anonymous volumes too. When it returns nil nothing of the
// container can be seen any more; files may still be deleted in the
// background. Errors: Conflict if it runs and force is not set, or a removal is
// under way. name is what the caller called the container, for the message.
func (a *Actor) Remove(ctx context.Context, name string, force, volumes bool) error {
	for {
		var running bool
		err := a.call(ctx, func(reply func(error)) {
			if a.rec.State == Removing {
				reply(errdefs.Conflictf("removal of container %s is already in progress", name))
				return
			}
			a.idle(func() {
				switch s := a.rec.State; {
				case s.Alive() && !force, s == Restarting && !force:
					reply(errdefs.Conflictf("cannot remove container %q: container is %s", name, advice(s)))
				case s.Alive():
					running, a.doomed = true, true
					reply(nil)
				case s == Removing:
					reply(errdefs.Conflictf("removal of container %s is already in progress", name))
				default:
					a.stopTimer()
					a.remove(volumes, reply)
				}
			})
		})
		if err != nil || !running {
			return err
		}
		if a.View().HostConfig.AutoRemove { // the kill removes it as well
			return a.killRemoved(ctx)
		}
		if err := a.Kill(ctx, killSignal, true); err != nil && errdefs.KindOf(err) != errdefs.Conflict {
			return err
		}
	}
}

// killSignal is SIGKILL.
const killSignal = 9

// killRemoved kills a container that removes itself, and waits for that.
func (a *Actor) killRemoved(ctx context.Context) error {
	if err := a.Kill(ctx, killSignal, true); err != nil && errdefs.KindOf(err) != errdefs.Conflict && errdefs.KindOf(err) != errdefs.NotFound {
		return err
	}
	select {
	case <-a.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func advice(s State) string {
	switch s {
	case Paused:
		return "paused and must be unpaused first"
	case Restarting:
		return "restarting: stop the container before removing or force remove"
	}
	return "running: stop the container before removing or force remove"
}

// autoRemove deletes a container that removes itself at its end.
func (a *Actor) autoRemove() {
	a.remove(true, func(err error) {
		if err != nil {
			a.log.Warn("automatic removal failed", "error", err)
		}
	})
}

// remove deletes the container outside the loop.
func (a *Actor) remove(volumes bool, reply func(error)) {
	if err := a.rec.State.check(Removing); err != nil {
		reply(err)
		return
	}
	next := a.rec
	next.State = Removing
	a.show(next)
	rec := a.View()
	a.outside(func(ctx context.Context) error {
		if err := a.host.Erase(ctx, rec, volumes); err != nil {
			return err
		}
		return a.host.Discard(ctx, rec)
	}, func(err error) {
		next := a.rec
		next.State = Gone
		if err != nil {
			next.State, next.Error = Dead, err.Error()
		}
		if next.State == Dead {
			if err := a.commit(next, true, "", nil); err != nil {
				a.log.Error("the failed removal could not be recorded", "error", err)
				a.show(next)
			}
			reply(err)
			return
		}
		a.show(next)
		a.host.Gone(rec)
		a.host.Publish(rec, events.ActionDestroy, nil)
		reply(nil)
	})
}
