package server

import (
	"context"
	"errors"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/runtime"
	"lade/internal/supervisor/wire"
)

// Foreign is a container that another runtime runs. Its processes are ours all
// the same: children of this subreaper, watched by their pidfds. So are its
// control group, where it has one, its output and its log; the runtime is asked
// for the rest, if it can. Every method may run a program.
type Foreign interface {
	Start(ctx context.Context, c *runtime.Container) (*runtime.Process, error)
	Exec(ctx context.Context, e *runtime.Exec) (*runtime.Process, error)
	// Remove makes the runtime forget the container, which has ended.
	Remove(ctx context.Context) error
	// Started reports whether Start came to its end.
	Started() bool
}

// A Foreign may be more than that: its runtime takes signals, because the
// process that we see is not the container's own; it controls a container that
// has no control group; it tells how a process ended that is not our child; or it
// copies what comes from a container's terminal, and knows when that was all.
type (
	signaller interface {
		Signal(ctx context.Context, sig unix.Signal) error
	}
	controller interface {
		Freeze(ctx context.Context) error
		Thaw(ctx context.Context) error
		Update(ctx context.Context, r *specs.LinuxResources) error
	}
	teller interface {
		ExitStatus() (unix.WaitStatus, bool)
	}
	relayer interface {
		Relayed()
	}
	accountant interface {
		OOMKills() (uint64, error)
	}
)

// launcher is what starts a container's processes.
type launcher interface {
	Start(ctx context.Context, c *runtime.Container) (*runtime.Process, error)
	Exec(ctx context.Context, e *runtime.Exec) (*runtime.Process, error)
}

func (c *container) launcher() launcher {
	if c.foreign != nil {
		return c.foreign
	}
	return c.s.o.Launcher
}

// adoptForeign finds out whether a container that was started by a supervisor
// before this one has another runtime. Errors: Conflict if that supervisor was
// lost before the container's command was started: it never will be.
func (c *container) adoptForeign() error {
	if c.s.o.Foreign == nil {
		return nil
	}
	f, err := c.s.o.Foreign(c.id, nil)
	switch {
	case errors.Is(err, errdefs.NotFound):
		return nil
	case err != nil:
		return err
	case !f.Started():
		return errdefs.Conflictf("container %s was not started to the end", c.id)
	}
	c.setForeign(f)
	return nil
}

// setForeign is called before the runtime is. Its commands leave processes that
// become our children.
func (c *container) setForeign(f Foreign) {
	c.foreign = f
	c.s.expectOrphans()
}

// call runs f, which runs programs, in a goroutine and then done in the loop.
// Meanwhile no children are reaped but those that f waits for.
func (s *Server) call(f, done func()) {
	s.calls++
	go func() {
		f()
		s.poll.post(func() {
			s.calls--
			done()
			if s.unreaped {
				s.reapOrphans()
			}
			s.checkIdle()
		})
	}()
}

// ask is do for what the runtime is asked for.
func (c *container) ask(r *request, op func(context.Context) error, done func()) {
	c.busy++
	var err error
	c.s.call(func() {
		ctx, cancel := context.WithTimeout(context.Background(), groupWait)
		defer cancel()
		err = op(ctx)
	}, func() {
		c.busy--
		if err == nil {
			done()
		}
		r.fail(err)
		c.release()
	})
}

// clean removes what is left of a container in the runtime that had it, and its
// control group.
func (s *Server) clean(f Foreign, g *cgroup.Group, kill bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanup)
	defer cancel()
	var err error
	if f != nil {
		err = f.Remove(ctx)
	}
	if g != nil {
		err = errors.Join(err, deleteGroup(ctx, g, kill))
	}
	return err
}

// dropForeign makes the runtime of a container that a former supervisor had
// forget it, if there is one, and calls then.
func (s *Server) dropForeign(id string, then func(error)) {
	var f Foreign
	err := error(errdefs.NotFoundf("no other runtimes"))
	if s.o.Foreign != nil {
		f, err = s.o.Foreign(id, nil)
	}
	if errors.Is(err, errdefs.NotFound) {
		then(nil)
		return
	}
	if err != nil {
		then(err)
		return
	}
	s.expectOrphans()
	began := time.Now()
	s.cleaning[id] = nil
	s.call(func() { err = s.clean(f, nil, false) }, func() {
		s.log.Info("what another runtime kept of a container is removed", "container", id, "took", time.Since(began), "error", err)
		s.cleaned(id)
		then(err)
	})
}

// runForeign is run for a container of another runtime.
func (l *launch) runForeign(r *wire.Runtime, ask *runtime.Container) {
	c := l.p.c
	f, err := c.s.o.Foreign(c.id, r)
	if err != nil {
		l.run(func() (*runtime.Process, error) { return nil, err })
		return
	}
	c.setForeign(f)
	l.run(func() (*runtime.Process, error) {
		p, err := f.Start(context.Background(), ask)
		if err == nil && !ask.Rootfs.Volatile {
			p.Root = runtime.HoldRoot(p.Pid, p.Pidfd)
		}
		return p, err
	})
}

// freezeForeign freezes or thaws a container that has no control group, if its
// runtime can.
func (c *container) freezeForeign(r *request, thaw bool) error {
	f, ok := c.foreign.(controller)
	switch {
	case !ok:
		return errdefs.NotImplementedf("container %s has no control group", c.id)
	case thaw:
		c.ask(r, f.Thaw, func() { c.frozen = false })
	default:
		c.ask(r, f.Freeze, func() { c.frozen = true })
	}
	return nil
}

// checkSignal refuses what is no signal, as the kernel does.
func checkSignal(sig unix.Signal) error {
	const last = 64 // SIGRTMAX
	if sig < 1 || sig > last {
		return errdefs.Invalidf("no signal has the number %d", int(sig))
	}
	return nil
}

// endTold ends an adopted process of which it is known how it ended: when all that
// it has printed is there.
func (p *process) endTold(code, signal int) {
	f, ok := p.c.foreign.(relayer)
	if !ok || p.exec != "" || !p.terminal {
		p.end(code, signal)
		return
	}
	p.ask(f.Relayed, func() { p.end(code, signal) })
}

// ask runs f, for which the end of the process waits, and then end; once.
func (p *process) ask(f, end func()) {
	if p.asked {
		return
	}
	p.asked = true
	p.c.s.poll.drop(p.pidfd)
	p.c.busy++
	p.c.s.call(f, func() {
		p.c.busy--
		if !p.ended {
			end()
		}
	})
}

// endUntold ends an adopted process of which the kernel does not tell how it
// ended: another runtime may know.
func (p *process) endUntold() {
	f, ok := p.c.foreign.(teller)
	if !ok || p.exec != "" {
		p.end(-1, 0)
		return
	}
	var ws unix.WaitStatus
	p.ask(func() { ws, ok = f.ExitStatus() }, func() {
		if ok {
			p.end(exitCode(ws))
		} else {
			p.end(-1, 0)
		}
	})
}
