package main

import (
	"context"
	"errors"
	"io/fs"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/selfpipe"
	"lade/internal/linux/sys"
	"lade/internal/runtime"
)

func start(ctx context.Context, a *app, args []string) error {
	id, err := newFlags("start").one(args)
	if err != nil {
		return err
	}
	c, err := a.load(id)
	if err != nil {
		return err
	}
	if mustEnter() && c.Status == specs.StateCreated && c.Hooks != nil && len(c.Hooks.StartContainer) > 0 {
		return ended(a.enterOf(ctx, c))
	}
	return a.start(ctx, c)
}

func (a *app) start(ctx context.Context, c *container) error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.observe(); err != nil {
		return err
	}
	switch c.Status {
	case specs.StateCreated:
	case specs.StateStopped:
		return errdefs.Conflictf("cannot start a container that has stopped")
	case statusPaused:
		return errdefs.Conflictf("cannot start a container in the paused state")
	default:
		return errdefs.Conflictf("cannot start an already running container")
	}
	fd, err := c.pidfd()
	if err != nil {
		return err
	}
	defer sys.CloseAll(fd)
	g, err := c.group()
	if err != nil {
		g = nil // it is not killed by its group then
	}
	if c.NoProcess {
		// It cannot become a running container any more.
		return c.killed(errdefs.Invalidf("cannot start a container without a process"), fd, g)
	}
	if c.Hooks != nil && len(c.Hooks.StartContainer) > 0 {
		if err := a.startContainer(ctx, c, fd, g); err != nil {
			return c.killed(err, fd, g)
		}
	}
	if err := c.release(); err != nil {
		return err
	}
	c.Status = specs.StateRunning
	unlock()
	return a.poststart(ctx, c, fd, g)
}

// startContainer runs the hooks of that name: the container's own programs, that
// could see this one.
func (a *app) startContainer(ctx context.Context, c *container, fd int, g *cgroup.Group) error {
	if err := runtime.Shield(); err != nil {
		return err
	}
	l, err := runtime.NewLauncher(runtime.Options{Threads: 1, Logger: a.log, Once: true})
	if err != nil {
		return err
	}
	err = c.inside(ctx, l, "startContainer", c.Hooks.StartContainer, fd, g)
	return errors.Join(err, l.Close())
}

// release lets the container's process go on. The fifo is removed last: a start
// that was killed before can be repeated.
func (c *container) release() error {
	f, err := os.OpenFile(c.fifo(), os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return errdefs.Conflictf("cannot start: %w", err)
	}
	defer f.Close()
	failpoint.Hit("runtime.start")
	if _, err := f.Write([]byte{0}); err != nil {
		return err
	}
	failpoint.Hit("runtime.started")
	if err := os.Remove(c.fifo()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// poststart runs the hooks of that name; one that fails ends the container:
// runtime.md, "Lifecycle" 9.
func (a *app) poststart(ctx context.Context, c *container, fd int, g *cgroup.Group) error {
	if c.Hooks == nil || len(c.Hooks.Poststart) == 0 {
		return nil
	}
	if err := c.hooks(ctx, "poststart", c.Hooks.Poststart); err != nil {
		return c.killed(err, fd, g)
	}
	return nil
}

func runVerb(ctx context.Context, a *app, args []string) error {
	f, id, err := parseCreate("run", args)
	if err != nil {
		return err
	}
	if mustEnter() {
		return a.enterFor(ctx, &f)
	}
	b, err := a.prepare(&f, id)
	if err != nil {
		return err
	}
	defer b.close()
	switch {
	case b.spec.Process.Terminal && f.detach && f.consoleSocket == "":
		err = errdefs.Invalidf("cannot allocate tty if lade-runtime will detach without setting console socket")
	case f.consoleSocket != "" && !(f.detach && b.spec.Process.Terminal):
		err = errdefs.Invalidf("cannot use console socket if lade-runtime will not detach or allocate tty")
	case b.c.NoProcess:
		err = errdefs.Invalidf("process property must not be empty")
	default:
		err = b.run(ctx)
	}
	if err != nil {
		return a.abandon(b.c, err)
	}
	if f.detach {
		return nil
	}
	code, err := b.a.attend(b.p.Pidfd, b.p.Console)
	if !f.keep {
		err = errors.Join(err, a.removeEnded(b.c))
	}
	return ended(code, err)
}

// run makes a container that runs. Where nothing happens between creation and
// start it does both at once.
func (b *birth) run(ctx context.Context) error {
	if !b.atOnce() {
		if err := b.create(ctx); err != nil {
			return err
		}
		return b.a.start(ctx, b.c)
	}
	p, err := b.scoped(ctx, func() (*runtime.Process, error) { return b.l.Start(ctx, b.req) })
	if err != nil {
		return err
	}
	b.p = p
	failpoint.Hit("runtime.spawned")
	if err := b.know(p, specs.StateRunning); err != nil {
		return err
	}
	if err := b.deliver(); err != nil {
		return err
	}
	return b.a.poststart(ctx, b.c, p.Pidfd, p.Cgroup)
}

// attend passes signals on to a process, and its terminal's output, until it
// ends; it returns how.
func (a *app) attend(fd, console int) (int, error) {
	signals, err := selfpipe.New(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGCONT, unix.SIGWINCH)
	if err != nil {
		return 0, err
	}
	defer signals.Close()
	t, err := a.takeTerminal(console)
	if err != nil {
		return 0, err
	}
	defer t.release()
	ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(signals.FD()), Events: unix.POLLIN}}
	for ready[0].Revents == 0 {
		if err := sys.Retry(func() error { _, err := unix.Poll(ready, -1); return err }); err != nil {
			return 0, sys.Error("poll", "pidfd", err)
		}
		for _, sig := range signals.Read() {
			if sig == unix.SIGWINCH && t.master != nil {
				t.resize()
			} else {
				_ = pidfd.Signal(fd, sig) // it may have ended meanwhile
			}
		}
	}
	code, _, err := pidfd.Wait(fd)
	return code, err
}
