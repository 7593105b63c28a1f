package runtime

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/linux/mount"
)

// What a container with SELinux labels needs besides the context of its process
// (builder.label): contexts of what is mounted for it.
//
// Sources: OCI runtime-spec, config-linux.md, "Mount Label"; mount(8),
// "context="; selinux_set_mnt_opts in the kernel's security/selinux/hooks.c.

// context gives a file system that is made for the container the container's
// label. What the kernel shows of itself keeps its own.
func (b *builder) context(o *mount.Options, m *specs.Mount) {
	switch m.Type {
	case "proc", "sysfs", "mqueue", "cgroup", "cgroup2", "bind":
		return
	}
	if b.mountLabel != "" && !o.Bind && !o.Has("context") {
		o.Super = append(slices.Clip(o.Super), "context="+b.mountLabel)
	}
}

// labelRoot labels the root of a file system that was made with its IPC
// namespace, which the kernel does not let one mount with another context.
func (b *builder) labelRoot(fs ref) {
	if b.mountLabel == "" {
		return
	}
	// Labels are set on what is open, which the descriptor of a mount is not.
	dir := b.sys("openat", ".", unix.SYS_OPENAT, fs, b.addr.dot, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	set := b.sys("fsetxattr", "security.selinux", unix.SYS_FSETXATTR, result(dir), b.p.String("security.selinux"),
		b.p.String(b.mountLabel), uint64(len(b.mountLabel)+1), 0)
	set.Allow(unix.EOPNOTSUPP) // a policy may not label these files one by one
	if b.user != nil {
		// One that is not of the container's own belongs to the host's root. What the
		// policy says of it stays.
		set.Allow(unix.EPERM)
	}
}

// labelledMasks makes the sources of masks again, with the container's label:
// it may not even look at those that are everybody's. With a user namespace it
// cannot make a device; a hidden path is then refused instead of being empty. They
// are mounted at a path that nothing is looked up below any more.
func (b *builder) labelledMasks(at string) {
	if b.mountLabel == "" || b.user != nil {
		return
	}
	fs := b.filesystem("tmpfs", []string{"mode=555", "context=" + b.mountLabel}, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	null, empty := b.p.String("null"), b.p.String("empty")
	b.sys("mknodat", "null", unix.SYS_MKNODAT, fs, null, unix.S_IFCHR|0o666, unix.Mkdev(1, 3))
	b.sys("mkdirat", "empty", unix.SYS_MKDIRAT, fs, empty, 0o555)
	b.attributes(fs, "masks", unix.MOUNT_ATTR_RDONLY, 0)
	// Only what is mounted somewhere can be cloned (before Linux 6.15).
	b.sys("move_mount", at, unix.SYS_MOVE_MOUNT, fs, b.addr.empty, atCWD, b.p.String(at), unix.MOVE_MOUNT_F_EMPTY_PATH)
	b.null = result(b.sys("openat", "null", unix.SYS_OPENAT, fs, null, unix.O_PATH|unix.O_CLOEXEC))
	b.empty = result(b.sys("openat", "empty", unix.SYS_OPENAT, fs, empty, unix.O_PATH|unix.O_CLOEXEC))
}
