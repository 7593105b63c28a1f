package runtime

import (
	"golang.org/x/sys/unix"

	"lade/internal/linux/mount"
	"lade/internal/linux/ns"
)

// inOrder are the two mount namespaces that a child changes between to clone
// mounts of the host: the host's, and its own, which only its own procfs can
// name.
type inOrder struct {
	host int
	own  ref
	top  ref // "/" as it was, under the container's root: setns(2) leads on top of all
}

// number gives a bind mount a number of now, by a clone that the child makes:
// since Linux 6.8 mountinfo lists mounts by number, and those that the caller
// has opened would come before all that the child has made. The kernel clones
// what is detached only in the namespace that it came from, and only since Linux
// 6.15; where it does not the mount is what it was.
func (b *builder) number(fd int, o *mount.Options, what string) (ref, error) {
	if b.order == nil {
		host, err := ns.Open(0, unix.CLONE_NEWNS)
		if err != nil {
			return ref{}, err
		}
		b.order = &inOrder{host: b.own(host)}
		proc := b.proc
		if !proc.valid() {
			proc = b.procfs()
		}
		b.internal()
		b.order.top = result(b.p.Sys("openat", "/", unix.SYS_OPENAT, atCWD, b.p.String("/"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC))
		b.order.own = result(b.sys("openat", "own mount namespace", unix.SYS_OPENAT, proc, b.p.String("self/ns/mnt"), unix.O_RDONLY|unix.O_CLOEXEC))
	}
	b.internal()
	b.p.Sys("setns", "the host's mount namespace", unix.SYS_SETNS, uint64(b.order.host), unix.CLONE_NEWNS)
	again := b.cloneTree(known(fd), what, unix.AT_RECURSIVE)
	again.op[0].AllowAll()
	b.sys("setns", "own mount namespace", unix.SYS_SETNS, b.order.own, unix.CLONE_NEWNS)
	b.stage(what, "")
	again.fd = fd
	if kind := o.Propagation &^ unix.MS_REC; kind == unix.MS_UNBINDABLE {
		b.sys("mount_setattr", what, unix.SYS_MOUNT_SETATTR, again, b.addr.empty, recursively(o)|unix.AT_EMPTY_PATH, b.p.Words(0, 0, kind, 0), 32)
	}
	return again, nil
}

func recursively(o *mount.Options) uint64 {
	if o.Propagation&unix.MS_REC != 0 {
		return unix.AT_RECURSIVE
	}
	return 0
}

// bindable is o for a mount that must still be cloned.
func bindable(o *mount.Options) *mount.Options {
	if o.Propagation&^unix.MS_REC != unix.MS_UNBINDABLE {
		return o
	}
	out := *o
	out.Propagation = private | o.Propagation&unix.MS_REC
	return &out
}
