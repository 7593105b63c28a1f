package container

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"lade/internal/errdefs"
)

// Back-off of restarts, as Docker does it: doubled from 100 ms to one minute,
// and forgotten after ten seconds of running.
const (
	firstDelay = 100 * time.Millisecond
	lastDelay  = time.Minute
	settled    = 10 * time.Second
)

// Start starts the container and returns when its process runs. Errors:
// NotModified if it runs already, Conflict if it is paused or being removed,
// and what the host says of a failed launch.
func (a *Actor) Start(ctx context.Context) error {
	return a.call(ctx, func(reply func(error)) { a.idle(func() { a.start(reply) }) })
}

func (a *Actor) start(reply func(error)) {
	switch a.rec.State {
	case Running:
		reply(errdefs.NotModifiedf("container %s is already running", a.rec.ID))
	case Paused:
		reply(errdefs.Conflictf("cannot start a paused container, try unpause instead"))
	case Gone:
		reply(a.noSuch())
	case Removing, Dead:
		reply(errdefs.Conflictf("container is marked for removal and cannot be started"))
	default:
		a.stopTimer()
		a.rec.Stopped, a.rec.RestartCount, a.backoff, a.halting = false, 0, 0, false
		a.launch(func(err error) { reply(err) })
	}
}

// launch starts the process outside the loop.
func (a *Actor) launch(reply func(error)) {
	if err := a.rec.State.check(Starting); err != nil {
		reply(err)
		return
	}
	a.origin = a.rec.State
	next := a.rec
	next.State = Starting
	a.show(next)
	rec, streams := a.View(), a.pending
	a.pending = nil
	var got Launched
	a.outside(func(ctx context.Context) (err error) {
		got, err = a.host.Launch(ctx, rec, streams)
		return err
	}, func(err error) { reply(a.launched(got, err)) })
}

func (a *Actor) launched(got Launched, err error) error {
	next := a.rec
	if err == nil {
		next.State, next.Pid, next.StartedAt, next.Cgroup, next.Confined, next.Pipes = Running, got.Pid, got.StartedAt, got.Cgroup, got.Confined, got.Pipes
		next.ExitCode, next.Error, next.OOMKilled, next.began = 0, "", false, time.Now()
		// After a power cut only a restart policy makes a difference between a
		// container that was running and one that was not.
		durable := !next.HostConfig.RestartPolicy.IsNone()
		if err = a.commit(next, durable, events.ActionStart, nil); err != nil {
			// It runs but cannot be recorded: it must not run.
			a.log.Error("the container is killed because its start could not be recorded", "error", err)
			a.show(next)
			a.kill()
		}
		if exit := a.early; exit != nil {
			a.early = nil
			a.ended(*exit)
		}
		return err
	}
	next.State, next.ExitCode, next.Error = a.origin, 128, err.Error()
	if se, ok := errors.AsType[*StartError](err); ok {
		next.ExitCode = se.Code
	}
	if a.origin == Restarting {
		next.State = Exited
	}
	if saveErr := a.commit(next, false, "", nil); saveErr != nil {
		a.log.Error("the failed start could not be recorded", "error", saveErr)
		a.show(next)
	}
	a.notify(container.WaitConditionNotRunning)
	if a.rec.HostConfig.AutoRemove {
		a.autoRemove()
	}
	return err
}

// Exited tells the actor that the process has ended. It reports whether the
// exit was recorded: false when the engine is closing, or the container gone.
func (a *Actor) Exited(e Exit) bool {
	recorded := make(chan struct{})
	if !a.post(func() { a.ended(e); close(recorded) }) {
		return false
	}
	select {
	case <-recorded:
		return true
	case <-a.done:
		return false
	}
}

// OOM tells the actor that the kernel killed a process for memory.
func (a *Actor) OOM() {
	a.post(func() {
		if !a.rec.State.Alive() {
			return
		}
		next := a.rec
		next.OOMKilled = true
		a.show(next)
		a.host.Publish(a.View(), events.ActionOOM, nil)
	})
}

func (a *Actor) ended(e Exit) {
	if a.rec.State == Starting {
		a.early = &e
		return
	}
	if !a.rec.State.Alive() || e.Pid != 0 && e.Pid != a.rec.Pid {
		return // told twice
	}
	ran := a.rec.Ran(time.Now())
	next := a.rec
	next.Ended(e)
	if a.halting && next.State == Restarting {
		next.State, next.RestartCount = Exited, a.rec.RestartCount
	}
	kept := a.kept && !a.doomed
	a.halting, a.kept = false, false
	if next.OOMKilled && !a.rec.OOMKilled { // the end overtook the notice
		a.host.Publish(a.View(), events.ActionOOM, nil)
	}
	again := next.State == Restarting
	a.host.Release(a.View())
	if err := a.commit(next, false, events.ActionDie, next.DieAttributes()); err != nil {
		a.log.Error("the exit could not be recorded", "error", err)
		a.show(next)
	}
	if a.exited != nil {
		close(a.exited)
		a.exited = nil
	}
	a.notify(container.WaitConditionNextExit)
	switch {
	case again:
		if ran >= settled {
			a.backoff = 0
		}
		a.backoff = min(max(2*a.backoff, firstDelay), lastDelay)
		a.timer = time.AfterFunc(a.backoff, func() { a.post(func() { a.idle(a.again) }) })
	case a.rec.HostConfig.AutoRemove && !kept:
		a.notify(container.WaitConditionNotRunning)
		a.idle(a.autoRemove)
	default:
		a.notify(container.WaitConditionNotRunning)
	}
}

// Ended changes the record to that of a container that has ended: exited, or
// restarting if its policy wants it started again.
func (r *Record) Ended(e Exit) {
	sick := r.sick()
	r.Pid, r.ExitCode, r.FinishedAt, r.Health, r.Held = 0, e.Code, e.At, r.unwatched(), false
	r.OOMKilled = r.OOMKilled || e.OOM
	if e.Code < 0 {
		r.ExitCode, r.Error = 255, "the container ended while no supervisor watched it"
	}
	r.State = Exited
	if r.restarts(sick) {
		r.State = Restarting
		r.RestartCount++
	}
}

// Rebooted says of a container that has ended untold that the machine's restart
// ended it. That is no failure of its own: it does not count as a restart.
func (r *Record) Rebooted() {
	r.Error = "the machine was restarted while the container ran"
	if r.State == Restarting {
		r.RestartCount--
	}
}

// DieAttributes are what the event of its end tells.
func (r *Record) DieAttributes() map[string]string {
	ran := max(r.FinishedAt.Sub(r.StartedAt), 0)
	return map[string]string{"exitCode": strconv.Itoa(r.ExitCode), "execDuration": strconv.Itoa(int(ran.Seconds()))}
}

// again is the restart after the back-off.
func (a *Actor) again() {
	if a.rec.State != Restarting {
		return
	}
	a.launch(func(err error) {
		if err != nil {
			a.log.Warn("restart failed", "error", err)
		}
	})
}

func (a *Actor) stopTimer() {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
}

// Resume starts a container again after the engine was away, if its policy
// wants it, and continues one that the engine had held. It returns at once.
func (a *Actor) Resume() {
	a.post(func() {
		switch p := a.rec.HostConfig.RestartPolicy; {
		case a.rec.State == Restarting:
		case a.rec.State == Exited && (p.IsAlways() || p.IsUnlessStopped() && !a.rec.Stopped):
		case a.rec.State == Paused && a.rec.Held:
			a.release()
			return
		default:
			return
		}
		a.idle(func() {
			a.launch(func(err error) {
				if err != nil {
					a.log.Warn("the container could not be started again", "error", err)
				}
			})
		})
	})
}
