package container

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// patience is how long a process may take to die of SIGKILL.
const patience = 10 * time.Second

// Stop sends a signal, waits at most timeout (negative: without end) for the
// process to end, then kills it. It returns when the container has ended.
// Errors: NotModified if it does not run.
func (a *Actor) Stop(ctx context.Context, signal int, timeout time.Duration) error {
	return a.stop(ctx, signal, timeout, forGood)
}

// Halt is Stop with the engine's end as its reason: the restart policy does not
// start the container again now, but the next engine's Resume may.
func (a *Actor) Halt(ctx context.Context, signal int, timeout time.Duration) error {
	return a.stop(ctx, signal, timeout, forEngine)
}

// reason is why a container is stopped, which decides what comes after its end.
type reason int

const (
	forGood    reason = iota // somebody wants it stopped
	forEngine                // the engine ends
	forRestart               // it is started again at once
)

func (a *Actor) stop(ctx context.Context, signal int, timeout time.Duration, why reason) error {
	var exited <-chan struct{}
	var thaw bool
	err := a.call(ctx, func(reply func(error)) {
		a.idle(func() {
			if a.rec.State == Restarting {
				a.stopTimer()
				next := a.rec
				next.State, next.Stopped = Exited, why != forEngine
				err := a.commit(next, true, events.ActionStop, nil)
				a.notify(container.WaitConditionNotRunning)
				reply(err)
				return
			}
			if !a.rec.State.Alive() {
				reply(errdefs.NotModifiedf("container %s is already stopped", a.id))
				return
			}
			thaw = a.rec.State == Paused
			exited = a.nextExit()
			a.halting, a.kept = why == forEngine, why == forRestart
			if a.halting {
				reply(nil)
				return
			}
			reply(a.markStopped())
		})
	})
	if err != nil || exited == nil {
		return err
	}
	if err := a.signal(ctx, signal, false); err == nil && thaw {
		err = a.thaw(ctx)
		if err != nil {
			a.log.Warn("a paused container could not be continued to be stopped", "error", err)
		}
	}
	if !wait(ctx, exited, timeout) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.killAndWait(ctx, exited); err != nil {
			return err
		}
	}
	a.host.Publish(a.View(), events.ActionStop, nil)
	return nil
}

// wait waits for an exit; it reports whether it came in time.
func wait(ctx context.Context, exited <-chan struct{}, timeout time.Duration) bool {
	var late <-chan time.Time
	if timeout >= 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-exited:
		return true
	case <-late:
	case <-ctx.Done():
	}
	return false
}

func (a *Actor) killAndWait(ctx context.Context, exited <-chan struct{}) error {
	// Not found: it has just ended, and we are about to be told.
	if err := a.killAll(ctx, exited); err != nil && errdefs.KindOf(err) != errdefs.NotFound {
		select {
		case <-exited:
			return nil
		default:
			return err
		}
	}
	if !wait(ctx, exited, patience) {
		return errdefs.Internalf("container %s did not end within %s of SIGKILL", a.id, patience)
	}
	return nil
}

// killAll kills every process. The answer comes when the last one is gone, which
// on a busy machine is long after the first: the end of that is enough.
func (a *Actor) killAll(ctx context.Context, exited <-chan struct{}) error {
	ctx, enough := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer enough()
	watch.Go(func() {
		select {
		case <-exited:
			enough()
		case <-ctx.Done():
		}
	})
	return a.signal(ctx, int(unix.SIGKILL), true)
}

// nextExit returns a channel that is closed at the next exit.
func (a *Actor) nextExit() <-chan struct{} {
	if a.exited == nil {
		a.exited = make(chan struct{})
	}
	return a.exited
}

// markStopped suspends the restart policy, without waiting for the disk: that
// the container has ended is observed again anyway.
func (a *Actor) markStopped() error {
	if a.rec.Stopped {
		return nil
	}
	next := a.rec
	next.Stopped = true
	return a.commit(next, false, "", nil)
}

func (a *Actor) thaw(ctx context.Context) error {
	if err := a.host.Freeze(ctx, a.id, true); err != nil {
		return err
	}
	return a.call(ctx, func(reply func(error)) {
		if a.rec.State != Paused {
			reply(nil)
			return
		}
		next := a.rec
		next.State, next.Held = Running, false
		reply(a.commit(next, false, events.ActionUnPause, nil))
	})
}

// kill kills a container whose start could not be recorded.
func (a *Actor) kill() {
	a.work.Go(func() {
		if err := a.host.Signal(context.WithoutCancel(a.ctx), a.id, int(unix.SIGKILL), true); err != nil {
			a.log.Error("kill failed", "error", err)
		}
	})
}

// Kill sends a signal; SIGKILL goes to every process and Kill then waits for
// the end. A signal that is meant to stop it (terminal) suspends the restart
// policy. Errors: Conflict if the container does not run.
func (a *Actor) Kill(ctx context.Context, signal int, terminal bool) error {
	var exited <-chan struct{}
	err := a.call(ctx, func(reply func(error)) {
		a.idle(func() {
			if !a.rec.State.Alive() {
				reply(errdefs.Conflictf("container %s is not running", a.id))
				return
			}
			exited = a.nextExit()
			if terminal {
				reply(a.markStopped())
				return
			}
			reply(nil)
		})
	})
	if err != nil {
		return err
	}
	if signal == int(unix.SIGKILL) {
		return a.killAndWait(ctx, exited)
	}
	return a.signal(ctx, signal, false)
}

// signal sends a signal that was asked for. That is told first: the end that
// it brings may be seen before the call returns.
func (a *Actor) signal(ctx context.Context, signal int, all bool) error {
	a.host.Publish(a.View(), events.ActionKill, map[string]string{"signal": strconv.Itoa(signal)})
	return a.host.Signal(ctx, a.id, signal, all)
}
