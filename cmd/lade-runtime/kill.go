package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"github.com/moby/sys/signal"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/sys"
)

func kill(ctx context.Context, a *app, args []string) error {
	f := newFlags("kill")
	all := f.Bool("all", false, "to every process")
	f.alias("a", "all")
	rest, err := f.anywhere(args)
	if err != nil {
		return err
	}
	if len(rest) < 1 || len(rest) > 2 {
		return f.wants("1 or 2 arguments")
	}
	sig := unix.SIGTERM
	if len(rest) == 2 {
		if sig, err = parseSignal(rest[1]); err != nil {
			return err
		}
	}
	c, err := a.load(rest[0])
	if err != nil {
		return err
	}
	// Without a pid namespace the end of the first process is not that of the
	// others.
	if *all || sig == unix.SIGKILL && !c.OwnPidNS {
		return c.killAll(ctx, sig)
	}
	fd, err := c.pidfd()
	if err != nil {
		return err
	}
	defer sys.CloseAll(fd)
	if err := pidfd.Signal(fd, sig); err != nil || sig != unix.SIGKILL || c.Status != statusPaused {
		return err
	}
	// A version 1 freezer keeps even SIGKILL waiting.
	g, err := c.group()
	if err != nil {
		return err
	}
	return g.Thaw(ctx)
}

// parseSignal returns the signal of a name or number. 0 only asks whether there is
// a process: kill(2). Errors: Invalid.
func parseSignal(s string) (unix.Signal, error) {
	if s == "0" {
		return 0, nil
	}
	sig, err := signal.ParseSignal(s)
	if err != nil || sig > lastSignal {
		return 0, errdefs.Invalidf("unknown signal %q", s)
	}
	return sig, nil
}

// lastSignal is the kernel's last, SIGRTMAX: signal(7).
const lastSignal = 64

func (c *container) killAll(ctx context.Context, sig unix.Signal) error {
	g, err := c.group()
	if errors.Is(err, errdefs.NotFound) {
		return errdefs.Conflictf("container not running")
	}
	if err != nil {
		return err
	}
	if sig == unix.SIGKILL {
		return g.Kill(ctx)
	}
	return signalAll(g, sig)
}

func signalAll(g *cgroup.Group, sig unix.Signal) error {
	pids, err := g.Pids()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
			return sys.Error("kill", strconv.Itoa(pid), err)
		}
	}
	return nil
}

func deleteVerb(ctx context.Context, a *app, args []string) error {
	f := newFlags("delete")
	force := f.Bool("force", false, "kill it if it runs")
	f.alias("f", "force")
	id, err := f.one(args)
	if err != nil {
		return err
	}
	c, err := a.load(id)
	if errors.Is(err, errdefs.NotFound) {
		// What a create or delete that was interrupted has left has nothing but its
		// directory.
		if err := os.RemoveAll(filepath.Join(a.root, id)); err != nil {
			return err
		}
		if *force {
			return nil
		}
	}
	if err != nil {
		return err
	}
	if *force {
		// Whoever holds the lock may wait for the container.
		ctx, cancel := cleanUp()
		defer cancel()
		if err := c.end(ctx); err != nil {
			return err
		}
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if c, err = a.load(id); err != nil {
		return err
	}
	// A container that was never started may be deleted as it is: engines do so.
	if c.Status != specs.StateStopped && c.Status != specs.StateCreated && !*force {
		return errdefs.Conflictf("cannot delete container %s that is not stopped: %s", id, c.Status)
	}
	return a.remove(ctx, c)
}
