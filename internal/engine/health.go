package engine

import (
	"context"
	"errors"
	"strings"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/ids"
	"lade/internal/supervisor/wire"
)

const (
	// checkOutput is how much of a check's output is kept, in bytes.
	checkOutput = 4096
	// checkDies is how long a killed check may take to end.
	checkDies = 10 * time.Second
)

// Watch implements container.Host.
func (e *host) Watch(r *container.Record) {
	if r.State != container.Running || r.Check() == nil {
		e.health.Forget(r.ID)
		return
	}
	e.health.Watch(r.ID, r.CheckInterval(time.Now()))
}

// rewatch goes on with the checks of a container that ran while no engine did,
// in the rhythm that it had: many of them are not checked at the same time.
func (e *host) rewatch(r *container.Record) {
	if r.State != container.Running || r.Check() == nil {
		return
	}
	now := time.Now()
	every := r.CheckInterval(now)
	e.health.Watch(r.ID, every-max(r.Ran(now), 0)%every)
}

// checkHealth checks a container once: a health.CheckFunc.
func (e *Engine) checkHealth(ctx context.Context, id string) time.Duration {
	a, err := e.containers.find(id)
	if err != nil {
		return -1
	}
	r := a.View()
	command := r.Check()
	if r.State != container.Running || command == nil {
		return -1
	}
	result := e.runCheck(ctx, a, command)
	if ctx.Err() != nil {
		return -1
	}
	if a.Checked(r.StartedAt, result) {
		e.work.Go(func() { e.unhealthy(a) })
	}
	return a.View().CheckInterval(time.Now())
}

// unhealthy does what the container says that it wants done.
func (e *Engine) unhealthy(a *container.Actor) {
	r := a.View()
	if r.Renews() {
		sig, timeout, err := e.stopping(r, StopOptions{})
		if err == nil {
			err = a.Renew(e.ctx, sig, timeout)
		}
		e.complain(r, err)
		return
	}
	var err error
	switch r.HostConfig.Annotations[container.FailureAnnotation] {
	case container.FailureKill:
		err = a.Kill(e.ctx, killSignal, false)
	case container.FailureRestart:
		err = e.ContainerRestart(e.ctx, r.ID, StopOptions{})
	case container.FailureStop:
		err = e.stop(e.ctx, a, StopOptions{})
	default:
		return
	}
	e.complain(r, err)
}

// complain logs what an unhealthy container asked for and did not get.
func (e *Engine) complain(r *container.Record, err error) {
	if k := errdefs.KindOf(err); err != nil && k != errdefs.NotModified && k != errdefs.Conflict && k != errdefs.NotFound && e.ctx.Err() == nil {
		e.log.Error("what an unhealthy container asks for could not be done", "container", r.ID, "error", err)
	}
}

// runCheck runs a check's command in the container and returns what it found.
func (e *Engine) runCheck(ctx context.Context, a *container.Actor, command []string) apicontainer.HealthcheckResult {
	r := a.View()
	result := apicontainer.HealthcheckResult{Start: time.Now()}
	code, output, err := e.execCheck(ctx, a, command, r.CheckTimeout())
	result.End, result.ExitCode, result.Output = time.Now(), code, output
	if err != nil {
		result.ExitCode, result.Output = -1, err.Error()
	}
	return result
}

// execCheck runs a command as an exec that leaves no trace but its events. What
// it prints comes with its end, so that a check is one question and two answers.
func (e *Engine) execCheck(ctx context.Context, a *container.Actor, command []string, timeout time.Duration) (code int, output string, err error) {
	x := &execution{
		id: ids.New(), container: a, ended: make(chan struct{}), keep: checkOutput,
		request: apicontainer.ExecCreateRequest{Cmd: command, AttachStdout: true, AttachStderr: true},
	}
	r := a.View()
	e.execs.add(x)
	defer e.execs.drop(x)
	e.Publish(r, events.ActionExecCreate+": "+events.Action(strings.Join(command, " ")), map[string]string{"execID": x.id})
	if err := e.ExecStart(ctx, x.id, ExecStartOptions{Detach: true}); err != nil {
		return 0, "", err
	}
	t := time.NewTimer(timeout)
	defer t.Stop()
	late := false
	select {
	case <-x.ended:
	case <-t.C:
		late = true
	case <-ctx.Done():
		late = true
	}
	if late {
		e.endCheck(r, x)
	}
	e.execs.mu.Lock()
	defer e.execs.mu.Unlock()
	output = string(x.output)
	if x.more {
		output += "..."
	}
	if late {
		msg := "Health check exceeded timeout (" + timeout.String() + ")"
		if output != "" {
			msg += ": " + output
		}
		return 0, "", errors.New(msg)
	}
	return *x.code, output, nil
}

// endCheck kills a check that took too long, and waits for its end, so that
// such checks do not pile up.
func (e *Engine) endCheck(r *container.Record, x *execution) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), checkDies)
	defer cancel()
	err := e.sup.signal(ctx, &wire.Signal{ID: r.ID, ExecID: x.id, Signal: killSignal})
	if err != nil && errdefs.KindOf(err) != errdefs.NotFound {
		e.log.Warn("a health check could not be ended", "container", r.ID, "error", err)
	}
	e.await(x.ended)
}

// await waits for a channel to be closed, for checkDies at most. A closing
// engine, which is told of no end any more, does not wait.
func (e *host) await(c <-chan struct{}) {
	t := time.NewTimer(checkDies)
	defer t.Stop()
	select {
	case <-c:
	case <-t.C:
	case <-e.ctx.Done():
	}
}
