package cgroup

import (
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/trace"
)

// hasUnified reports whether the group exists in a unified hierarchy. A group
// that another runtime made on a hybrid host may not.
func (g *Group) hasUnified() bool { return g.h.unified != nil && g.h.unified.exists(g.path) }

// Freeze stops every process in the group and waits until the kernel says so,
// or ctx ends (the group is then thawed). It is idempotent. Errors: NotFound.
//
// Source: Documentation/admin-guide/cgroup-v2.rst, "cgroup.freeze";
// cgroup-v1/freezer-subsystem.rst.
func (g *Group) Freeze(ctx context.Context) error {
	err := g.freeze(ctx)
	if err != nil && ctx.Err() != nil {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), thawTime)
		defer cancel()
		return errors.Join(err, g.Thaw(clean))
	}
	return err
}

func (g *Group) freeze(ctx context.Context) error {
	if g.hasUnified() {
		if err := g.h.unified.write(g.path, "cgroup.freeze", "1"); err != nil {
			return g.missing(g.h.unified, err)
		}
		return g.waitEvents(ctx, "frozen", "1")
	}
	m, ok := g.h.v1At("freezer")
	if !ok && g.h.unified != nil {
		return g.gone(unix.ENOENT)
	}
	if !ok {
		return errdefs.Unavailablef("this host has no freezer control group controller")
	}
	// A task that is being forked or is in the middle of a system call that
	// cannot be interrupted is missed by one write: the state stays FREEZING
	// until a later one.
	return retry(ctx, func() (bool, error) {
		if err := m.write(g.path, "freezer.state", "FROZEN"); err != nil {
			return false, g.missing(m, err)
		}
		state, err := m.read(g.path, "freezer.state")
		return strings.TrimSpace(state) == "FROZEN", g.missing(m, err)
	})
}

// Thaw lets the group's processes go on and waits until the kernel says so, or
// ctx ends. It is idempotent. Errors: NotFound.
func (g *Group) Thaw(ctx context.Context) error {
	found := false
	if m, ok := g.h.v1At("freezer"); ok && m.exists(g.path) {
		found = true
		if err := m.thawTree(g.path); err != nil {
			return g.missing(m, err)
		}
	}
	if g.hasUnified() {
		if err := g.h.unified.write(g.path, "cgroup.freeze", "0"); err != nil {
			return g.missing(g.h.unified, err)
		}
		return g.waitEvents(ctx, "frozen", "0")
	}
	if !found {
		return g.gone(unix.ENOENT)
	}
	return nil
}

// Frozen reports whether the group is frozen, or on the way. Errors: NotFound.
func (g *Group) Frozen() (bool, error) {
	if g.hasUnified() {
		v, err := g.h.unified.read(g.path, "cgroup.freeze")
		if err != nil {
			return false, g.missing(g.h.unified, err)
		}
		if strings.TrimSpace(v) == "1" {
			return true, nil
		}
	}
	m, ok := g.h.v1At("freezer")
	if !ok {
		if g.h.unified != nil && !g.h.unified.exists(g.path) {
			return false, g.gone(unix.ENOENT)
		}
		return false, nil
	}
	v, err := m.read(g.path, "freezer.state")
	return err == nil && strings.TrimSpace(v) != "THAWED", g.missing(m, err)
}

// thawTree thaws a v1 group and the groups below it. The write takes effect at
// once.
func (m *hierarchy) thawTree(group string) error {
	state, err := m.read(group, "freezer.state")
	if err == nil && strings.TrimSpace(state) != "THAWED" {
		err = m.write(group, "freezer.state", "THAWED")
	}
	if err != nil {
		return err
	}
	for _, name := range m.children(group) {
		if err := m.thawTree(join(group, name)); err != nil && !isGone(err) {
			return err
		}
	}
	return nil
}

// Kill sends SIGKILL to every process of the group and of the groups below it,
// frozen or not, and waits until none is left or ctx ends. A group that is gone
// has no processes: that is no error. Whoever is the processes' parent must
// reap them meanwhile; zombies do not count.
func (g *Group) Kill(ctx context.Context) error {
	if !g.hasUnified() || !g.h.kill {
		return g.killEach(ctx)
	}
	err := retry(ctx, func() (empty bool, err error) {
		if err := g.killOnce(); err != nil {
			return false, err
		}
		short, cancel := context.WithTimeout(ctx, killAgain)
		defer cancel()
		if err = g.waitEvents(short, "populated", "0"); errors.Is(err, context.DeadlineExceeded) {
			return false, nil
		}
		return err == nil, err
	})
	if isGone(err) {
		// Or it never was there, and those of version 1 have its processes: gVisor's.
		return g.killEach(ctx)
	}
	return err
}

// killOnce kills what is in the group now. A process that is on its way into it,
// as an exec is, joins unharmed.
func (g *Group) killOnce() error {
	if err := g.h.unified.write(g.path, "cgroup.kill", "1"); err != nil {
		return err
	}
	// A task that a v1 freezer holds dies when it is thawed.
	if m, ok := g.h.v1At("freezer"); ok {
		if err := m.thawTree(g.path); err != nil && !isGone(err) {
			return err
		}
	}
	return nil
}

// killEach freezes the group so that nothing forks, signals every process and
// thaws, until none is left. Without a freezer it does the same to a moving
// target.
func (g *Group) killEach(ctx context.Context) error {
	return retry(ctx, func() (bool, error) {
		pids, err := g.Pids()
		if errors.Is(err, errdefs.NotFound) || err == nil && len(pids) == 0 {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		short, cancel := context.WithTimeout(ctx, freezeTime)
		_ = g.freeze(short) // a task that does not freeze is still killed
		cancel()
		if pids, err = g.Pids(); err == nil {
			err = g.signal(pids)
		}
		if e := g.thawAnyway(); err == nil {
			err = e
		}
		if errors.Is(err, errdefs.NotFound) {
			return true, nil
		}
		return false, err
	})
}

// thawAnyway thaws both freezers: which one froze the group, and who else did,
// does not matter. One that was left frozen would stop what joins it before its
// execve(2), and with it whoever waits in vfork(2).
func (g *Group) thawAnyway() error {
	var errs []error
	if m, ok := g.h.v1At("freezer"); ok && m.exists(g.path) {
		errs = append(errs, m.thawTree(g.path))
	}
	if g.hasUnified() {
		errs = append(errs, g.h.unified.write(g.path, "cgroup.freeze", "0"))
	}
	return errors.Join(errs...)
}

// signal kills pids. A process that does not freeze may have exited and its
// number may belong to another one: a pidfd is taken first, and it is signalled
// only if the number is still in the group then.
func (g *Group) signal(pids []int) error {
	fds := make(map[int]int, len(pids))
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, pid := range pids {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			fds[pid] = fd
		} else if !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	still, err := g.Pids()
	if err != nil {
		return err
	}
	for pid, fd := range fds {
		if !slices.Contains(still, pid) {
			continue
		}
		span := trace.Begin(trace.Process, "kill", g.Path())
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); span.End(err) != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// Delete removes the group and the groups below it, and waits for processes
// that are on their way out until ctx ends. A group that is gone is no error.
// Errors: Conflict if processes are still in it when ctx ends.
func (g *Group) Delete(ctx context.Context) error {
	err := g.erase(ctx)
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	if g.hasUnified() {
		if e := g.waitEvents(ctx, "populated", "0"); e != nil && ctx.Err() == nil && !errors.Is(e, errdefs.NotFound) {
			return e
		}
	}
	// Empty or not, a v1 group may stay busy for the moment that its last task
	// takes to leave.
	e := retry(ctx, func() (bool, error) {
		err = g.erase(ctx)
		return !errors.Is(err, unix.EBUSY), nil
	})
	if e != nil && errors.Is(err, unix.EBUSY) {
		return errdefs.Conflictf("the control group /%s has processes: %w", g.path, err)
	}
	return err
}

// DeleteIdle removes the group and the groups below it if no process is in them,
// and reports whether it is gone now: what Kill and Delete would do, in the few
// system calls that it takes for a group whose processes have all ended. It does
// not wait. Where a process is left the group stays; empty ones below it may go.
func (g *Group) DeleteIdle() (gone bool, err error) {
	if g.Taken {
		return false, nil
	}
	for _, m := range slices.Concat(g.h.all(), g.h.named) {
		if err := m.removeTree(g.path); errors.Is(err, unix.EBUSY) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	return true, nil
}

// RemoveEmpty removes the group where nothing is in it, no process and no
// group; elsewhere it stays. That is no error, nor that it is gone. It does so
// in the named hierarchy, too, which other runtimes use.
func (g *Group) RemoveEmpty() error {
	var failed error
	for _, m := range slices.Concat(g.h.all(), g.h.named) {
		err := m.rmdir(g.path)
		if err != nil && !isGone(err) && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// erase tries once to have the group removed.
func (g *Group) erase(ctx context.Context) error {
	if g.Taken {
		return g.leave(ctx)
	}
	return g.remove()
}

// remove tries every hierarchy and returns the first failure.
func (g *Group) remove() (err error) {
	if m, ok := g.h.v1At("cpu"); ok {
		m.release(g.path)
	}
	for _, m := range slices.Concat(g.h.all(), g.h.named) {
		if e := m.removeTree(g.path); err == nil {
			err = e
		}
	}
	return err
}
