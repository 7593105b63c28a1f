package runtime

import (
	"path/filepath"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/mount"
	"lade/internal/linux/sys"
	"lade/internal/trace"
)

// place says where the container's root is while its start prepares it.
type place int

const (
	// alone: on "/" of a mount namespace that was empty. The rule.
	alone place = iota
	// beside: in a copy of the host's mounts, which goes away by pivot_root(2): on
	// "/", or, for hooks that are to find it and may still look at the host, at its
	// own path. The copy costs 1.2 µs for each mount of the host, and as much again
	// at the end. That is also what it costs to make an empty mount namespace, so a
	// launcher that starts one container makes none.
	beside
	// foreign: in a mount namespace that is not the container's own. Nothing can
	// be mounted or hidden there without doing it to others: the root is only
	// entered.
	foreign
)

// placeOf decides where the root of c is to be prepared.
func (b *builder) placeOf(c *Container) (place, error) {
	own := false
	for _, n := range c.Spec.Linux.Namespaces {
		own = own || n.Type == specs.MountNamespace && n.Path == ""
	}
	switch {
	case !own && len(c.Rootfs.Lower) > 0:
		return foreign, errdefs.Invalidf("the spec needs a mount namespace of its own")
	case !own && slices.ContainsFunc(c.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace }):
		return foreign, errdefs.Invalidf("a user namespace needs a mount namespace of its own")
	case !own:
		return foreign, nil
	case c.Prepared != nil && !filepath.IsAbs(c.Rootfs.Path):
		return beside, errdefs.Invalidf("hooks of the creation need a root directory")
	case c.Prepared != nil:
		return beside, nil
	case b.l.o.Once && !b.l.host.nested && len(c.Rootfs.Lower) == 0 && (b.user == nil || b.user.inSight):
		return beside, nil
	}
	return alone, nil
}

// openRoot makes the container's root: a detached mount, or, where nothing may
// be mounted, the directory itself.
func (b *builder) openRoot(c *Container) error {
	if b.place != foreign {
		return b.mountRoot(&c.Rootfs, mount.Propagation(c.Spec.Linux.RootfsPropagation))
	}
	fd, err := unix.Open(c.Rootfs.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	b.root = b.own(fd)
	return sys.Error("open", c.Rootfs.Path, err)
}

// keepRoot keeps the descriptor of an overlay that the kernel syncs when its last
// user leaves, which takes as long as all that waits to be written to that disk.
// Without it that would be the container's first process, and nobody would be told
// of its end before.
//
// Source: ovl_sync_fs in fs/overlayfs/super.c, by generic_shutdown_super.
func (b *builder) keepRoot(r *Rootfs) int {
	if len(r.Lower) == 0 || r.Upper == "" || r.Volatile {
		return 0
	}
	b.fds = slices.DeleteFunc(b.fds, func(fd int) bool { return fd == b.root })
	return b.root
}

// cloneRoot clones the mounts of a root directory, detached. What is mounted on
// the host below it later shows in the container if the propagation says so:
// a slave keeps its master.
func (b *builder) cloneRoot(source string, propagation uint64) (fd int, err error) {
	kind := propagation &^ unix.MS_REC
	// pivot_root(2) refuses a shared root; it becomes one afterwards.
	if kind != unix.MS_SLAVE && (kind != unix.MS_SHARED || b.place == beside) {
		return cloneHost(source, &mount.Options{Bind: true, Recursive: true})
	}
	span := trace.Begin(trace.Mount, "open_tree", source)
	defer func() { err = span.End(err) }()
	fd, err = unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, sys.Error("open_tree", source, err)
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Propagation: kind}); err != nil {
		sys.CloseAll(fd)
		return -1, sys.Error("mount_setattr", source, err)
	}
	return fd, nil
}

// placeRoot attaches the root where it is prepared, and opens what paths are
// hidden with.
func (b *builder) placeRoot(c *Container) {
	b.internal()
	how := uint64(unix.O_PATH | unix.O_CLOEXEC)
	switch b.place {
	case alone:
		b.null = result(b.p.Sys("openat", "/null", unix.SYS_OPENAT, atCWD, b.p.String("/null"), how))
		b.empty = result(b.p.Sys("openat", "/empty", unix.SYS_OPENAT, atCWD, b.p.String("/empty"), how))
		b.labelledMasks("/empty")
		b.p.Sys("move_mount", "/", unix.SYS_MOVE_MOUNT, uint64(b.root), b.addr.empty, atCWD, b.p.String("/"), unix.MOVE_MOUNT_F_EMPTY_PATH)
	case beside:
		b.p.Sys("mount", "/ private", unix.SYS_MOUNT, b.addr.empty, b.p.String("/"), b.addr.empty, unix.MS_REC|unix.MS_PRIVATE, 0)
		b.null = result(b.p.Sys("openat", "/dev/null", unix.SYS_OPENAT, atCWD, b.p.String("/dev/null"), how))
		at := "/"
		if c.Prepared != nil {
			at = c.Rootfs.Path
		}
		b.labelledMasks(at) // the root covers them
		b.p.Sys("move_mount", at, unix.SYS_MOVE_MOUNT, uint64(b.root), b.addr.empty, atCWD, b.p.String(at), unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
}

// enterRoot makes the root the child's, and the host's files unreachable.
func (b *builder) enterRoot(s *specs.Spec) {
	b.internal()
	if b.order != nil && b.place == beside {
		// To come back into the mount namespace has made what lies on its "/" our root:
		// the very one that is to be pivoted to (setns(2)).
		b.sys("fchdir", "the host's root", unix.SYS_FCHDIR, b.order.top)
		b.p.Sys("chroot", "the host's root", unix.SYS_CHROOT, b.addr.dot)
	}
	b.p.Sys("fchdir", "/", unix.SYS_FCHDIR, uint64(b.root))
	if b.place != beside {
		b.p.Sys("chroot", "/", unix.SYS_CHROOT, b.addr.dot)
	} else {
		// The old root lies on the new one until it is taken off: pivot_root(2).
		b.p.Sys("pivot_root", ".", unix.SYS_PIVOT_ROOT, b.addr.dot, b.addr.dot)
		b.p.Sys("umount2", "the host's root", unix.SYS_UMOUNT2, b.addr.dot, unix.MNT_DETACH)
		b.p.Sys("chdir", "/", unix.SYS_CHDIR, b.p.String("/"))
	}
	p := mount.Propagation(s.Linux.RootfsPropagation)
	if b.place == foreign || p == 0 || p&^unix.MS_REC == private {
		return
	}
	flags := uint64(unix.AT_EMPTY_PATH)
	if p&unix.MS_REC != 0 {
		flags |= unix.AT_RECURSIVE
	}
	b.sys("mount_setattr", "/", unix.SYS_MOUNT_SETATTR, known(b.root), b.addr.empty, flags, b.p.Words(0, 0, p&^unix.MS_REC, 0), 32)
}

// emptyTree returns an empty directory's mount that hides another.
func (b *builder) emptyTree() ref {
	if b.empty.valid() {
		return b.cloneTree(b.empty, "/empty", 0)
	}
	// A detached mount can be cloned only since Linux 6.15.
	return b.filesystem("tmpfs", []string{"mode=555", "nr_inodes=1"}, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
}
