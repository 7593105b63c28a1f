package engine

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/proc"
	"lade/internal/supervisor"
	"lade/internal/supervisor/wire"
)

// adoption is what a supervisor must know of a container to carry on with it.
func (e *recovery) adoption(r *container.Record, l wire.Live) wire.Adopt {
	a := wire.Adopt{
		ID: r.ID, Pid: l.Pid, StartedAt: l.StartedAt, Cgroup: l.Cgroup, Terminal: r.Config.Tty,
		Stdio: wire.Stdio{Stdin: r.Config.OpenStdin, StdinOnce: r.Config.StdinOnce, Stdout: true, Stderr: true},
	}
	ctx, cancel := context.WithTimeout(e.ctx, cleanUp)
	defer cancel()
	log, err := e.logOf(ctx, r)
	if err != nil { // it was checked when the container was made
		e.log.Warn("a container cannot be logged if its supervisor is lost", "container", r.ID, "error", err)
	}
	a.Log = log
	return a
}

// duplicate takes the descriptors of a running process again that the last
// engine had. Without them the process goes on, but not its output when the
// supervisor is lost.
func (e *recovery) duplicate(ctx context.Context, c *supervisor.Client, a wire.Adopt) {
	got, err := c.Duplicate(ctx, a.ID, a.ExecID)
	if err != nil {
		e.log.Warn("no duplicates of what the supervisor holds", "container", a.ID, "exec", a.ExecID, "error", err)
		return
	}
	a.Terminal = got.Console != nil
	a.Stdio.Stdin = a.Stdio.Stdin || got.Stdin != nil
	e.sup.hold(&hold{started: got, adopt: a})
}

// adopt gives a supervisor a container that it does not know, and of which we
// hold nothing: supervisor and daemon were lost together. What is left of it
// is its control group, and in that its processes, which hold its pipes. A
// terminal is lost unless a service manager has kept it. It reports whether the
// container runs. Errors: of the supervisor.
func (e *recovery) adopt(ctx context.Context, c *supervisor.Client, r *container.Record, group string) (l wire.Live, running bool, err error) {
	g, err := e.Cgroups.Open(group)
	if err != nil {
		return l, false, nil
	}
	pid, pidfd, err := first(g, r.Pid)
	if err != nil {
		return l, false, nil
	}
	l = wire.Live{ID: r.ID, Pid: pid, StartedAt: startOf(pid), Cgroup: group}
	if l.Frozen, err = g.Frozen(); err != nil {
		e.log.Warn("whether a container is paused is not known", "container", r.ID, "error", err)
	}
	h := &hold{started: &supervisor.Started{Pid: pid, StartedAt: l.StartedAt, Pidfd: pidfd}, adopt: e.adoption(r, l)}
	// We have lost its terminal, but the service manager may have kept it.
	h.adopt.Terminal, h.adopt.Kept = false, r.Config.Tty
	if !takePipes(g, r.Pipes, h.started) && !r.Config.Tty {
		e.log.Warn("a container goes on without its output, which was lost with both daemon and supervisor", "container", r.ID)
	}
	if err := h.handOver(ctx, c, l.Frozen); err != nil {
		h.started.Close()
		return l, false, err
	}
	if r.Config.Tty && h.started.Console == nil {
		e.log.Warn("a container goes on without its terminal, which was lost with both daemon and supervisor", "container", r.ID)
	}
	e.sup.hold(h)
	return l, true, nil
}

// first finds the first process of a control group: the one that is recorded,
// else the first of a process namespace, else the oldest. Errors: NotFound.
func first(g *cgroup.Group, recorded int) (pid int, pidfd *os.File, err error) {
	pids, err := g.Pids()
	if err != nil || len(pids) == 0 {
		return 0, nil, errdefs.NotFoundf("control group %s has no process: %w", g.Path(), err)
	}
	slices.SortFunc(pids, func(a, b int) int { return startOf(a).Compare(startOf(b)) })
	pid = pids[0]
	if i := slices.IndexFunc(pids, isInit); i >= 0 {
		pid = pids[i]
	}
	if slices.Contains(pids, recorded) {
		pid = recorded
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return 0, nil, errdefs.NotFoundf("process %d: %w", pid, err)
	}
	pidfd = os.NewFile(uintptr(fd), "pidfd")
	// The number may have become another process's meanwhile.
	if pids, err = g.Pids(); err != nil || !slices.Contains(pids, pid) {
		pidfd.Close()
		return 0, nil, errdefs.NotFoundf("process %d has left control group %s: %w", pid, g.Path(), err)
	}
	return pid, pidfd, nil
}

// isInit reports whether a process is the first of a process namespace.
//
// Source: NSpid in proc_pid_status(5).
func isInit(pid int) bool {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return false
	}
	_, line, _ := strings.Cut(string(status), "\nNSpid:")
	line, _, _ = strings.Cut(line, "\n")
	f := strings.Fields(line)
	return len(f) > 1 && f[len(f)-1] == "1"
}

// startOf returns when a process was started, now if it is gone.
func startOf(pid int) time.Time {
	p, err := proc.Read(pid)
	if err != nil {
		return time.Now()
	}
	boot, err := proc.BootTime()
	if err != nil {
		return time.Now()
	}
	return boot.Add(p.Start)
}

// clear ends what is left in the control group of a container that does not
// run any more, and removes it. What cannot be removed now is told again at the
// next connection.
func (e *recovery) clear(ctx context.Context, c *supervisor.Client, id, group string) {
	ctx, cancel := context.WithTimeout(ctx, cleanUp)
	defer cancel()
	g, err := e.Cgroups.Open(group)
	switch {
	case errdefs.KindOf(err) == errdefs.NotFound:
		err = nil
	case err == nil:
		e.log.Info("the control group of a lost container is removed", "container", id)
		err = errors.Join(g.Kill(ctx), g.Delete(ctx))
	}
	if err == nil {
		err = c.Forget(ctx, &wire.Forget{ID: id})
	}
	if err != nil {
		e.log.Warn("the control group of a lost container stays behind", "container", id, "error", err)
	}
}
