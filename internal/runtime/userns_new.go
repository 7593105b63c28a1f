package runtime

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/idmap"
	"lade/internal/linux/ns"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/sys"
	"lade/internal/program"
	"lade/internal/trace"
)

// NewUser makes a user namespace with a map, and with net a network namespace
// that belongs to it. The caller closes both; without net the second is -1.
//
// Errors: Invalid for the map; Unavailable when the host has no more.
func (l *Launcher) NewUser(ctx context.Context, ids idmap.Map, net bool) (userFD, netFD int, err error) {
	p, err := l.take()
	if err != nil {
		return -1, -1, err
	}
	defer l.give(p)
	userFD, err = l.mapped(ctx, p, ids)
	if err != nil || !net {
		return userFD, -1, err
	}
	owned, err := l.owned(ctx, p, userFD, false, unix.CLONE_NEWNET)
	if err != nil {
		sys.CloseAll(userFD)
		return -1, -1, err
	}
	return userFD, owned[0], nil
}

// exhausted names the settings that a clone or an unshare may have met.
func exhausted(err error) error {
	if oe, ok := errors.AsType[*program.OpError](err); ok && (oe.Call == "clone3" || oe.Call == "unshare") {
		return errdefs.Unavailablef("cannot make a user namespace (/proc/sys/user/max_user_namespaces, max_net_namespaces): %w", err)
	}
	return err
}

// mapped makes, by p, a user namespace with a map and returns its descriptor, which
// is the caller's.
//
// A user namespace gets its map from outside, through the files of a process that
// is in it. That one need not live: until it is reaped the kernel knows where it
// was. So it ends at once, and nobody waits for anybody.
func (l *Launcher) mapped(ctx context.Context, p *program.Program, ids idmap.Map) (fd int, err error) {
	if err := ids.Check(); err != nil {
		return -1, err
	}
	span := trace.Begin(trace.Process, "user namespace", "")
	o := program.Options{Flags: unix.CLONE_NEWUSER, Cgroup: -1, PidNS: -1}
	give := func(pid int) (err error) {
		if err = ids.Write(pid); err == nil {
			fd, err = ns.Open(pid, unix.CLONE_NEWUSER)
		}
		return err
	}
	if l.host.nested {
		// What has ended has no memory that says whose it was: its files belong to
		// the root of the whole host (task_dump_owner in fs/proc/base.c).
		err = l.hold(ctx, o, nil, give)
	} else {
		err = l.ended(ctx, p, o, give)
	}
	if err = span.End(exhausted(err)); err != nil {
		return -1, err
	}
	return fd, nil
}

// ended runs a process that ends at once, and f before it is reaped.
func (l *Launcher) ended(ctx context.Context, p *program.Program, o program.Options, f func(pid int) error) error {
	p.Reset()
	p.Sys("exit_group", "", unix.SYS_EXIT_GROUP, 0)
	r, err := l.run(ctx, p, o, "user namespace")
	if err != nil {
		return err
	}
	err = f(r.Pid)
	l.reap(r)
	return err
}

// owned makes, by p, a namespace of each kind (CLONE_NEW*) that belongs to a user
// namespace with a map, made by its root, and returns their descriptors, which are
// the caller's. With lo the device lo of a network namespace is up.
func (l *Launcher) owned(ctx context.Context, p *program.Program, user int, lo bool, kinds ...uint64) ([]int, error) {
	p.Reset()
	b := newBuilder(l, p)
	fds := slices.Repeat([]int{-1}, len(kinds))
	var named opened
	var all uint64
	for _, k := range kinds {
		all |= k
	}
	p.Sys("setns", "user namespace", unix.SYS_SETNS, uint64(user), unix.CLONE_NEWUSER)
	b.becomeRoot()
	p.Sys("unshare", "namespaces", unix.SYS_UNSHARE, all)
	if lo {
		s := b.loopback()
		b.sys("close", "", unix.SYS_CLOSE, s)
	}
	dir := named.ownDir(p)
	for i, k := range kinds {
		named.namespace(b, dir, k, &fds[i])
	}
	p.Sys("exit_group", "", unix.SYS_EXIT_GROUP, 0)
	r, err := l.run(ctx, p, program.Options{Cgroup: -1, PidNS: -1, Files: true}, "namespaces")
	named.collect(err)
	if err != nil {
		return nil, exhausted(err)
	}
	l.reap(r)
	return fds, nil
}

// reap takes leave of a child that has ended.
func (l *Launcher) reap(r program.Result) {
	_, _, _ = pidfd.Wait(r.Pidfd) // whoever reaps every child may have been here before
	sys.CloseAll(r.Pidfd)
}
