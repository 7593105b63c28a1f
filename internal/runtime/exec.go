package runtime

import (
	"context"
	"errors"
	"strconv"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/ns"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/pty"
	"lade/internal/linux/rootpath"
	"lade/internal/linux/sys"
	"lade/internal/program"
)

// shared are the namespaces that an exec joins, the pid namespace apart. Those
// that the container shares with the host are joined too: that changes nothing.
const shared = unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// Exec starts a process in a running container and returns when its program was
// executed; see Start. Errors: as Start; Conflict when the container has ended.
func (l *Launcher) Exec(ctx context.Context, e *Exec) (*Process, error) {
	began := time.Now()
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if err := checkProcess(e.Process); err != nil {
		return nil, err
	}
	if l.host.outer || e.Traced && inOurUser(e.Pid) {
		p, err := l.guarded(ctx, e, began)
		if err != nil {
			if !pidfd.Alive(e.Pidfd) && errdefs.KindOf(err) != errdefs.Conflict {
				err = errdefs.Conflictf("cannot exec in a stopped container: %w", err)
			}
			return nil, err
		}
		p.Cgroup = e.Cgroup
		return p, nil
	}
	run := l.execHere
	if l.otherClocks(e.Pid) {
		run = l.execElsewhere
	}
	b, r, err := run(ctx, e)
	if err != nil {
		if b != nil {
			sys.CloseAll(b.master)
		}
		if !pidfd.Alive(e.Pidfd) && errdefs.KindOf(err) != errdefs.Conflict {
			err = errdefs.Conflictf("cannot exec in a stopped container: %w", err)
		}
		return nil, err
	}
	return &Process{
		Pid: r.Pid, Pidfd: r.Pidfd, Console: b.master, Cgroup: e.Cgroup,
		StartedAt: r.Began.Add(r.Took), Prepare: r.Began.Sub(began), Program: r.Took,
	}, nil
}

// execHere is the part of Exec that runs the program, on our memory.
func (l *Launcher) execHere(ctx context.Context, e *Exec) (*builder, program.Result, error) {
	p, err := l.take()
	if err != nil {
		return nil, program.Result{}, err
	}
	defer l.give(p)
	b := newBuilder(l, p)
	defer b.close()
	o, err := b.exec(e)
	if err != nil {
		return b, program.Result{}, err
	}
	r, err := b.run(ctx, o, strconv.Itoa(e.Pid))
	if err != nil {
		return b, r, b.explain(err)
	}
	return b, r, nil
}

// exec compiles an exec.
func (b *builder) exec(e *Exec) (program.Options, error) {
	o := program.Options{Cgroup: -1, PidNS: e.Pidfd, OwnPidNS: b.l.pidNS, PidNSKind: unix.CLONE_NEWPID}
	path := "/proc/" + strconv.Itoa(e.Pid) + "/root"
	root, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return o, errdefs.Conflictf("cannot exec in a stopped container: %w", sys.Error("open", path, err)) // it ends just now
	}
	if err != nil {
		return o, sys.Error("open", path, err)
	}
	b.own(root)
	if err := b.listen(e.Listener); err != nil {
		return o, err
	}
	// Only now is it known that the pid was still the container's.
	if !pidfd.Alive(e.Pidfd) {
		return o, unix.ESRCH
	}
	id, err := whoami(root, e.User, e.GroupAdd, &e.Process.User, e.SpecUser)
	if err != nil {
		return o, err
	}
	if e.Process.Terminal {
		if err := b.openTerminal(root, e); err != nil {
			return o, err
		}
	}
	streams := [3]int{e.Stdin, e.Stdout, e.Stderr}
	if err := b.joinUser(e.Pid); err != nil {
		return o, err
	}
	if b.user != nil {
		if err := b.giveStreams(streams, &id); err != nil {
			return o, err
		}
	}
	if err := b.ownScore(e.Process); err != nil {
		return o, err
	}
	affinity, err := affinityOf(e.Process.ExecCPUAffinity)
	if err != nil {
		return o, err
	}
	b.setAffinity(affinity.initial)
	if e.Cgroup != nil {
		home := e.Cgroup
		if d := home.Delegated(); d != nil {
			home = d.Joined(e.Pid)
		}
		if err := b.attachGroup(home, &o); err != nil {
			return o, err
		}
	}
	b.tasks = append(b.tasks, e.Tasks...)
	b.attachTasks()
	b.setAffinity(affinity.final)
	b.internal()
	join, err := b.foreign(e.Pid, &o)
	if err != nil {
		return o, err
	}
	if b.user != nil {
		join |= unix.CLONE_NEWUSER
		if err := b.raise(e.Process.Rlimits); err != nil {
			return o, err
		}
		b.internal()
	}
	if b.time {
		join |= unix.CLONE_NEWTIME
	}
	b.p.Sys("setns", "container", unix.SYS_SETNS, uint64(e.Pidfd), join)
	if b.guard != nil && o.PidNS >= 0 { // of its children
		b.p.Sys("setns", "pid namespace", unix.SYS_SETNS, uint64(e.Pidfd), unix.CLONE_NEWPID)
	}
	if b.user != nil {
		b.becomeRoot()
	}
	if e.OwnRoot {
		b.p.Sys("fchdir", "root", unix.SYS_FCHDIR, uint64(root))
		b.p.Sys("chroot", "root", unix.SYS_CHROOT, b.addr.dot)
	}
	if labelled(e.Process) {
		b.label(b.procfs(), e.Process)
	}
	if err := b.inherited(e.Personality, e.MemoryPolicy); err != nil {
		return o, err
	}
	b.internal()
	b.preserve, b.path = e.Preserve, e.Path
	proc := *e.Process
	if e.Path != "" {
		all := b.l.host.permit.Names()
		proc.Capabilities = &specs.LinuxCapabilities{Bounding: all, Permitted: all, Effective: all}
	}
	b.standard(streams, id, proc.Terminal)
	b.become(&proc, id, filter{e.Filter, e.FilterFlags})
	return o, nil
}

// ownScore gives an additional process its oom_score_adj: it has the caller's else,
// which may be one that the kernel spares. Only here, before it enters the
// container, is it the host's root.
func (b *builder) ownScore(p *specs.Process) error {
	if p.OOMScoreAdj == nil {
		return nil
	}
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return sys.Error("open", "/proc", err)
	}
	b.oomScore(known(b.own(proc)), p)
	return nil
}

// foreign returns which of the shared namespaces process pid has other than we.
// To join those that it has in common with us would change nothing, but in a user
// namespace it may not be allowed: those are the host's.
func (b *builder) foreign(pid int, o *program.Options) (join uint64, err error) {
	if !b.l.host.nested {
		return shared, nil
	}
	for _, kind := range [...]uint64{unix.CLONE_NEWNS, unix.CLONE_NEWNET, unix.CLONE_NEWIPC, unix.CLONE_NEWUTS, unix.CLONE_NEWCGROUP} {
		same, err := ns.Same(pid, kind)
		if err != nil {
			return 0, err
		}
		if !same {
			join |= kind
		}
	}
	same, err := ns.Same(pid, unix.CLONE_NEWPID)
	if same {
		o.PidNS = -1
	}
	return join, err
}

// openTerminal opens a terminal in the devpts of a running container.
func (b *builder) openTerminal(root int, e *Exec) error {
	dir, err := rootpath.Open(root, "/dev/pts", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer sys.CloseAll(dir)
	master, slave, err := pty.Open(dir)
	if err != nil {
		return err
	}
	b.master, b.console = master, b.own(slave)
	if z := e.Process.ConsoleSize; z != nil {
		return pty.Resize(master, uint16(z.Height), uint16(z.Width))
	}
	return nil
}
