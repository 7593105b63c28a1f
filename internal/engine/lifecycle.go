package engine

import (
	"context"
	"strconv"
	"strings"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/sys/signal"
	"golang.org/x/sys/unix"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
)

const defaultStopTimeout = 10 // seconds

// ContainerStart starts a container and returns when its process runs. Errors:
// NotFound, NotModified if it runs already, Conflict if it is paused or going;
// Invalid when the command cannot be executed, with its exit code recorded.
func (e *Engine) ContainerStart(ctx context.Context, name string) error {
	a, err := e.containers.find(name)
	if err != nil {
		return err
	}
	return a.Start(ctx)
}

// ContainerStop stops a container: its stop signal, then SIGKILL. Errors:
// NotFound, NotModified if it does not run, Invalid for a bad signal.
func (e *Engine) ContainerStop(ctx context.Context, name string, o StopOptions) error {
	a, err := e.containers.find(name)
	if err != nil {
		return err
	}
	return e.stop(ctx, a, o)
}

func (e *Engine) stop(ctx context.Context, a *container.Actor, o StopOptions) error {
	sig, timeout, err := e.stopping(a.View(), o)
	if err != nil {
		return err
	}
	return a.Stop(ctx, sig, timeout)
}

func (e *Engine) halt(ctx context.Context, a *container.Actor, o StopOptions) error {
	sig, timeout, err := e.stopping(a.View(), o)
	if err != nil {
		return err
	}
	return a.Halt(ctx, sig, timeout)
}

// stopping is how a container is stopped: by which signal, and how long after it
// by SIGKILL.
func (e *Engine) stopping(r *container.Record, o StopOptions) (sig int, patience time.Duration, err error) {
	sig, err = stopSignal(r, o.Signal)
	if err != nil {
		return 0, 0, err
	}
	timeout := defaultStopTimeout
	if def := e.settings().Defaults.StopTimeout; def > 0 {
		timeout = def
	}
	if r.Config.StopTimeout != nil {
		timeout = *r.Config.StopTimeout
	}
	if o.Timeout != nil {
		timeout = *o.Timeout
	}
	return sig, time.Duration(timeout) * time.Second, nil
}

// stopSignal returns the signal asked for, or the container's own.
func stopSignal(r *container.Record, asked string) (int, error) {
	if asked == "" {
		asked = r.Config.StopSignal
	}
	if asked == "" {
		return int(unix.SIGTERM), nil
	}
	s, err := signal.ParseSignal(asked)
	if err != nil {
		return 0, errdefs.Invalidf("%w", err)
	}
	return int(s), nil
}

// ContainerRestart stops a container if it runs, and starts it. Errors: NotFound,
// Invalid for a bad signal, and those of ContainerStart.
func (e *Engine) ContainerRestart(ctx context.Context, name string, o StopOptions) error {
	a, err := e.containers.find(name)
	if err != nil {
		return err
	}
	sig, timeout, err := e.stopping(a.View(), o)
	if err != nil {
		return err
	}
	return a.Restart(ctx, sig, timeout)
}

// ContainerKill sends a signal, SIGKILL if none is named. Errors: NotFound,
// Conflict if the container does not run, Invalid for a bad signal.
func (e *Engine) ContainerKill(ctx context.Context, name, sig string) error {
	a, err := e.containers.find(name)
	if err != nil {
		return err
	}
	number := int(unix.SIGKILL)
	if sig != "" {
		s, err := signal.ParseSignal(sig)
		if err != nil {
			return errdefs.Invalidf("cannot kill container: %s: %w", name, err)
		}
		number = int(s)
	}
	r := a.View()
	own, err := stopSignal(r, "")
	if err != nil {
		own = int(unix.SIGTERM)
	}
	terminal := number == int(unix.SIGKILL) || r.Config.StopSignal == "" || number == own
	if err := a.Kill(ctx, number, terminal); err != nil {
		if k := errdefs.KindOf(err); k != errdefs.Internal {
			return &errdefs.Error{Kind: k, Msg: "cannot kill container: " + name + ": " + err.Error(), Err: err}
		}
		return err
	}
	return nil
}

// ContainerPause freezes every process of a container.
func (e *Engine) ContainerPause(ctx context.Context, name string) error {
	a, err := e.containers.find(name)
	if err != nil {
		return err
	}
	return a.Pause(ctx)
}

// ContainerUnpause continues a paused container.
func (e *Engine) ContainerUnpause(ctx context.Context, name string) error {
	a, err := e.containers.find(name)
	if err != nil {
		return err
	}
	return a.Unpause(ctx)
}

// ContainerRename gives a container another name. Errors: NotFound, Invalid
// for a bad name, Conflict for one in use.
func (e *Engine) ContainerRename(ctx context.Context, name, to string) error {
	if name == "" || strings.Trim(to, "/") == "" {
		return errdefs.Invalidf("Neither old nor new names may be empty")
	}
	a, err := e.containers.find(name)
	if err != nil {
		return err
	}
	r := a.View()
	if strings.TrimPrefix(to, "/") == r.Name {
		return errdefs.Invalidf("Renaming a container with the same name as its current name")
	}
	to, err = e.containers.reserve(to, r.ID)
	if err != nil {
		return &errdefs.Error{Kind: errdefs.KindOf(err), Msg: "Error when allocating new name: " + err.Error(), Err: err}
	}
	if err := a.Rename(ctx, to); err != nil {
		e.containers.free(to, r.ID)
		return err
	}
	e.containers.free(r.Name, r.ID)
	if err := e.Networks.Rename(r.ID, to); err != nil && errdefs.KindOf(err) != errdefs.NotFound {
		e.log.Warn("the network still shows the old name", "container", r.ID, "error", err)
	}
	return nil
}

// ContainerRemove deletes a container. Errors: NotFound, Conflict if it runs
// and Force is not set.
func (e *Engine) ContainerRemove(ctx context.Context, name string, o RemoveOptions) error {
	if o.Link {
		return e.unlink(ctx, name)
	}
	a, err := e.containers.find(name)
	if err != nil {
		return err
	}
	return a.Remove(ctx, name, o.Force, o.Volumes)
}

// ContainerWait returns when waiting has begun; the channel delivers one
// response.
func (e *Engine) ContainerWait(ctx context.Context, name string, until apicontainer.WaitCondition) (<-chan apicontainer.WaitResponse, error) {
	a, err := e.containers.find(name)
	if err != nil {
		return nil, err
	}
	return a.Wait(ctx, until)
}

// ContainerResize sets the size of a container's terminal.
func (e *Engine) ContainerResize(ctx context.Context, name string, height, width uint16) error {
	a, err := e.containers.find(name)
	if err != nil {
		return err
	}
	r := a.View()
	if !r.State.Alive() {
		return errdefs.Conflictf("container %s is not running", r.ID)
	}
	if err := e.sup.resize(ctx, r.ID, "", height, width); err != nil {
		return err
	}
	e.Publish(r, events.ActionResize, map[string]string{"height": strconv.Itoa(int(height)), "width": strconv.Itoa(int(width))})
	return nil
}
