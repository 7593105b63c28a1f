package container

import (
	"context"

	"github.com/moby/moby/api/types/events"

	"lade/internal/errdefs"
)

// Pause freezes every process. Errors: Conflict if it does not run or is
// paused already.
func (a *Actor) Pause(ctx context.Context) error {
	return a.freeze(ctx, Running, Paused, events.ActionPause, false)
}

// Unpause continues a paused container.
func (a *Actor) Unpause(ctx context.Context) error {
	return a.freeze(ctx, Paused, Running, events.ActionUnPause, false)
}

// Hold is Pause for the time of an operation of the engine's: let ends it. If
// the engine dies in between, its next start does. Errors: as of Pause; then
// there is nothing to let go.
func (a *Actor) Hold(ctx context.Context) (let func(context.Context) error, err error) {
	err = a.freeze(ctx, Running, Paused, events.ActionPause, true)
	let = func(ctx context.Context) error {
		err := a.freeze(ctx, Paused, Running, events.ActionUnPause, true)
		if errdefs.KindOf(err) == errdefs.NotFound {
			return nil
		}
		return err
	}
	if err != nil && context.Cause(ctx) != nil {
		// It may still come to pass: what waits behind it undoes it.
		return nil, let(context.WithoutCancel(ctx))
	}
	return let, err
}

// freeze stops or continues the processes. held is true for Hold; what is not
// held any more, because somebody paused or continued it, is not let go.
func (a *Actor) freeze(ctx context.Context, from, to State, action events.Action, held bool) error {
	return a.call(ctx, func(reply func(error)) {
		a.idle(func() {
			switch s := a.rec.State; {
			case held && to == Running && (s != Paused || !a.rec.Held):
				reply(nil)
				return
			case s == from:
			case to == Running:
				reply(errdefs.Internalf("Container %s is not paused", a.id))
				return
			case s == to:
				reply(errdefs.Conflictf("container %s is already paused", a.id))
				return
			case s == Restarting:
				reply(errdefs.Conflictf("container %s is restarting, wait until the container is running", a.id))
				return
			default:
				reply(errdefs.Conflictf("container %s is not running", a.id))
				return
			}
			if held && to == Paused { // known before it is, should we die right after
				next := a.rec
				next.Held = true
				if err := a.commit(next, true, "", nil); err != nil {
					reply(err)
					return
				}
			}
			a.outside(func(ctx context.Context) error { return a.host.Freeze(ctx, a.id, to == Running) }, func(err error) {
				if err == nil && a.rec.State == from {
					next := a.rec
					next.State, next.Held = to, held && to == Paused
					err = a.commit(next, true, action, nil)
				}
				reply(err)
			})
		})
	})
}

// release continues a container that an engine which died had frozen for an
// operation of its own.
func (a *Actor) release() {
	a.work.Go(func() {
		if err := a.freeze(a.ctx, Paused, Running, events.ActionUnPause, true); err != nil && a.ctx.Err() == nil {
			a.log.Warn("the container stays paused", "error", err)
		}
	})
}
