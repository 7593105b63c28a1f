package runtime

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/mount"
	"lade/internal/linux/ns"
	"lade/internal/linux/pty"
	"lade/internal/linux/rootpath"
	"lade/internal/linux/sys"
	"lade/internal/trace"
)

// private keeps mounts from spreading to or from the host.
const private = unix.MS_PRIVATE

// mountRoot makes the container's root as a detached mount.
func (b *builder) mountRoot(r *Rootfs, propagation uint64) error {
	fd, err := -1, error(nil)
	if b.user != nil {
		fd, err = b.mountUser(r)
	} else {
		fd, err = b.mountPlain(r, propagation)
	}
	if err != nil {
		return err
	}
	b.root = b.own(fd)
	return nil
}

// mountPlain makes the root of a container without a user namespace.
func (b *builder) mountPlain(r *Rootfs, propagation uint64) (int, error) {
	if len(r.Lower) > 0 {
		return r.Mount(b.l.host.features())
	}
	return b.cloneRoot(r.Path, propagation)
}

// cloneHost clones the mount at a path of the host, detached, with the given
// options.
func cloneHost(source string, o *mount.Options) (fd int, err error) {
	span := trace.Begin(trace.Mount, "open_tree", source)
	defer func() { err = span.End(err) }()
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if o.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err = unix.OpenTree(unix.AT_FDCWD, source, flags)
	if err == unix.EINVAL {
		if pid, p, ok := ofProcess(source); ok {
			fd, err = cloneWithin(pid, p, flags)
		}
	}
	if err != nil {
		return -1, sys.Error("open_tree", source, err)
	}
	if err := setAttributes(fd, o); err != nil {
		sys.CloseAll(fd)
		return -1, sys.Error("mount_setattr", source, err)
	}
	return fd, nil
}

// ofProcess takes a path such as /proc/17/root/dev/shm apart: what process 17
// sees as /dev/shm.
func ofProcess(source string) (pid int, p string, ok bool) {
	rest, ok := strings.CutPrefix(source, "/proc/")
	if !ok {
		return 0, "", false
	}
	first, p, ok := strings.Cut(rest, "/root/")
	if !ok {
		return 0, "", false
	}
	pid, err := strconv.Atoi(first)
	return pid, "/" + p, err == nil && pid > 0
}

// cloneWithin clones a mount of a process's mount namespace, which nobody can
// from outside. No symbolic link is followed: it would lead where the processes
// there want.
func cloneWithin(pid int, p string, flags uint) (tree int, err error) {
	mnt, err := ns.Open(pid, unix.CLONE_NEWNS)
	if err != nil {
		return -1, err
	}
	defer sys.CloseAll(mnt)
	err = ns.Within(mnt, func() error {
		fd, err := unix.Openat2(unix.AT_FDCWD, p, &unix.OpenHow{
			Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
		})
		if err != nil {
			return sys.Error("openat2", p, err)
		}
		defer sys.CloseAll(fd)
		tree, err = unix.OpenTree(fd, "", flags|unix.AT_EMPTY_PATH)
		return sys.Error("open_tree", p, err)
	})
	return tree, err
}

// setAttributes applies a bind mount's options to a detached tree. Unless it is
// asked for, nothing spreads; "shared" alone leaves what is mounted below with
// the peers and masters that the copy has from the original.
func setAttributes(fd int, o *mount.Options) error {
	spread := o.Propagation &^ unix.MS_REC
	if spread == 0 {
		spread = private
	}
	top := unix.MountAttr{Attr_set: o.Set, Attr_clr: o.Clear, Propagation: spread}
	if !o.Recursive {
		top.Attr_set, top.Attr_clr = o.Set|o.AllSet, o.Clear|o.AllClear
		return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &top)
	}
	everywhere := unix.MountAttr{Attr_set: o.AllSet, Attr_clr: o.AllClear}
	if spread != unix.MS_SHARED || o.Propagation&unix.MS_REC != 0 {
		everywhere.Propagation, top.Propagation = spread, 0
	}
	for _, s := range []struct {
		flags uint
		attr  unix.MountAttr
	}{{unix.AT_RECURSIVE, everywhere}, {0, top}} {
		if s.attr == (unix.MountAttr{}) {
			continue
		}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|s.flags, &s.attr); err != nil {
			return err
		}
	}
	return nil
}

// inside cleans a path of the container: absolute, without a slash at its end.
func inside(p string) string {
	if !strings.HasPrefix(p, "/") {
		p = "/" + p
	}
	return path.Clean(p)
}

// mount adds one mount of the spec.
func (b *builder) mount(m *specs.Mount, c *Container) error {
	o := mount.Parse(m.Options)
	dest := inside(m.Destination)
	if dest == "/" || strings.ContainsRune(m.Destination, 0) {
		return errdefs.Invalidf("invalid mount destination %q", m.Destination)
	}
	what := `error mounting "` + m.Source + `" to rootfs at "` + m.Destination + `"`
	b.stage(what, "")
	fail := func(err error) error {
		return &StartError{Code: codeFailed, Op: what, Path: "", Errno: errnoOf(err)}
	}
	if o.Bind || m.Type == "bind" {
		if m.Source == "" {
			return errdefs.Invalidf("%s: a bind mount needs a source", what)
		}
		ordered := c.Ordered && b.user == nil
		how := o
		if ordered {
			how = bindable(o)
		}
		fd, err := cloneHost(m.Source, how)
		if err != nil {
			return fail(err)
		}
		b.own(fd)
		if err := checkProc(dest, what, fd); err != nil {
			return err
		}
		if err := b.translate(fd, o, m); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return fail(err)
		}
		from := known(fd)
		if ordered {
			if from, err = b.number(fd, o, what); err != nil {
				return err
			}
		}
		b.attach(from, dest, st.Mode&unix.S_IFMT != unix.S_IFDIR)
		b.covered(dest)
		return nil
	}
	if err := checkProc(dest, what, -1); err != nil && m.Type != "proc" {
		return err
	}
	if err := b.mountNew(m, o, dest, c); err != nil {
		return err
	}
	b.spread(dest, o)
	return nil
}

// spread makes a new file system's mount propagate as its options say. It is
// private already, and nobody's slave.
func (b *builder) spread(dest string, o *mount.Options) {
	switch p := o.Propagation &^ unix.MS_REC; p {
	case 0, unix.MS_PRIVATE, unix.MS_SLAVE:
	default:
		b.sys("mount_setattr", dest, unix.SYS_MOUNT_SETATTR, b.attached, b.addr.empty, unix.AT_EMPTY_PATH, b.p.Words(0, 0, p, 0), 32)
	}
}

// mountNew adds a new file system.
func (b *builder) mountNew(m *specs.Mount, o *mount.Options, dest string, c *Container) error {
	what := `error mounting "` + m.Source + `" to rootfs at "` + m.Destination + `"`
	fail := func(err error) error {
		return &StartError{Code: codeFailed, Op: what, Path: "", Errno: errnoOf(err)}
	}
	// Nothing is mounted below it that would have attributes of its own.
	o.Set, o.Clear = o.Set&^o.AllClear|o.AllSet, o.Clear&^o.AllSet|o.AllClear
	name(o, m)
	b.context(o, m)
	attrs := o.Set &^ unix.MOUNT_ATTR_RDONLY
	switch m.Type {
	case "sysfs", "mqueue", "tmpfs":
		if b.user != nil && !o.CopyUp && b.placeMade(dest, o) {
			return nil
		}
	}
	switch m.Type {
	case "proc":
		b.proc = b.filesystem("proc", o.Super, o.Set)
		b.attachKernel(b.proc, dest)
	case "sysfs":
		if b.l.lockedSys.Load() {
			o.Set |= unix.MOUNT_ATTR_RDONLY
		}
		b.attachKernel(b.filesystem("sysfs", o.Super, o.Set), dest)
	case "mqueue":
		fs, ok := b.stocked(m.Type, o.Super, o.Set, nothing)
		if !ok {
			fs = b.filesystem(m.Type, o.Super, o.Set)
		}
		b.labelRoot(fs)
		b.attach(fs, dest, false)
		b.covered(dest)
	case "devpts":
		if c.Spec.Process.Terminal && dest == "/dev/pts" {
			if err := b.terminal(o); err != nil {
				return fail(err)
			}
			b.attach(known(b.pts), dest, false)
		} else {
			fs, ok := b.stocked("devpts", o.Super, o.Set, nothing)
			if !ok {
				fs = b.filesystem("devpts", o.Super, o.Set)
			}
			b.attach(fs, dest, false)
		}
		b.covered(dest)
	case "tmpfs":
		if err := b.tmpfs(o, dest, attrs, c.Spec); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	case "cgroup", "cgroup2":
		return b.cgroupMount(o, dest, c)
	case "":
		return errdefs.Invalidf("%s: the mount has no type", what)
	default:
		fd, err := mount.New(m.Type, "", o) // the source is among its options: name
		if err != nil {
			return fail(err)
		}
		b.attach(known(b.own(fd)), dest, false)
		b.covered(dest)
	}
	return nil
}

// name passes on what mount(8) and /proc/self/mountinfo show of a file system.
func name(o *mount.Options, m *specs.Mount) {
	if m.Source != "" && !o.Bind && m.Type != "bind" && !o.Has("source") {
		o.Super = append(slices.Clip(o.Super), "source="+m.Source)
	}
}

// covered forgets what was known to be fresh at and below dest: something else
// is mounted there now.
func (b *builder) covered(dest string) {
	maps.DeleteFunc(b.fresh, func(p string, _ ref) bool { return p == dest || strings.HasPrefix(p, dest+"/") })
	delete(b.kernel, dest)
	if dest == "/dev" {
		b.dev = ref{}
	}
}

func (b *builder) tmpfs(o *mount.Options, dest string, attrs uint64, s *specs.Spec) error {
	super := o.Super
	if !o.Has("mode") && b.root >= 0 {
		// A directory that exists keeps its mode.
		if mode, ok := b.modeOf(dest); ok {
			super = append(slices.Clip(super), "mode="+mode)
		}
	}
	inside := nothing
	if dest == "/dev" && plainDev(s) {
		inside = defaultDev
	}
	var fs ref
	if o.CopyUp && b.root >= 0 {
		var err error
		if fs, err = b.copiedUp(o, super, attrs, dest); err != nil {
			return err
		}
	} else if stock, full := b.stocked("tmpfs", super, attrs, inside); !full {
		fs = b.filesystem("tmpfs", super, attrs)
	} else if fs = stock; inside == defaultDev {
		b.filled = fs.fd
	}
	b.attach(fs, dest, false)
	b.covered(dest)
	if b.fresh == nil {
		b.fresh = map[string]ref{}
	}
	b.fresh[dest] = fs
	if o.ReadOnly() {
		b.readOnly = append(b.readOnly, fs)
	}
	if dest == "/dev" {
		b.dev = fs
	}
	return nil
}

// modeOf returns the mode, in octal, of a directory of the image.
func (b *builder) modeOf(dest string) (string, bool) {
	fd, err := rootpath.Open(b.root, dest, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return "", false
	}
	defer sys.CloseAll(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", false
	}
	m := st.Mode & 0o7777
	return string([]byte{'0' + byte(m>>9&7), '0' + byte(m>>6&7), '0' + byte(m>>3&7), '0' + byte(m&7)}), true
}

// terminal makes the container's devpts and a terminal in it.
func (b *builder) terminal(o *mount.Options) error {
	super := o.Super
	if b.user != nil {
		super = b.user.devpts(super)
	}
	span := trace.Begin(trace.Mount, "devpts", "")
	fd, err := pty.Mount(super, int(o.Set))
	if span.End(err) != nil {
		return err
	}
	b.pts = b.own(fd)
	master, slave, err := pty.Open(fd)
	if err != nil {
		return err
	}
	b.master, b.console = master, b.own(slave)
	if b.user != nil {
		return b.ownTerminal(fd)
	}
	return nil
}

// cgroupMount shows the container its own control groups.
func (b *builder) cgroupMount(o *mount.Options, dest string, c *Container) error {
	if b.l.groups == nil || b.group == nil {
		return nil
	}
	mounts := b.l.groups.Mounts()
	unified := mounts[""]
	delete(mounts, "") // if there are others
	if len(mounts) == 0 && b.user != nil && !ownCgroups(c.Spec) {
		fd, err := cloneHost(unified, &mount.Options{Bind: true, Set: o.Set})
		if err != nil {
			return err
		}
		b.attach(known(b.own(fd)), dest, false)
		b.covered(dest)
		return nil
	}
	if len(mounts) == 0 {
		b.attach(b.filesystem("cgroup2", []string{"source=cgroup"}, o.Set), dest, false)
		b.covered(dest)
		return nil
	}
	options, attrs := []string{"source=tmpfs", "mode=755"}, o.Set&^unix.MOUNT_ATTR_RDONLY
	top, full := b.stocked("tmpfs", options, attrs, cgroupDirs)
	if !full {
		top = b.filesystem("tmpfs", options, attrs)
		b.emptyCgroups(top)
	}
	b.attach(top, dest, false)
	b.covered(dest)
	for _, h := range b.l.hierarchies() {
		if err := b.cgroupHierarchy(top, h.name, h.at, o); err != nil {
			return err
		}
	}
	if c.Delegate {
		others := b.l.groups.Others()
		for _, name := range slices.Sorted(maps.Keys(others)) {
			b.sys("mkdirat", name, unix.SYS_MKDIRAT, top, b.p.String(name), 0o755)
			if err := b.cgroupHierarchy(top, name, others[name], o); err != nil {
				return err
			}
		}
	}
	if o.ReadOnly() {
		b.readOnly = append(b.readOnly, top)
	}
	return nil
}

// hierarchy is one of version 1: a directory of the container's /sys/fs/cgroup.
type hierarchy struct {
	name string
	at   string   // where the host has it mounted
	also []string // names of controllers that are links to it
}

// hierarchies returns those that containers see, in the order of their
// controllers.
func (l *Launcher) hierarchies() (all []hierarchy) {
	mounts := l.groups.Mounts()
	delete(mounts, "") // the unified one
	for _, key := range slices.Sorted(maps.Keys(mounts)) {
		h := hierarchy{name: path.Base(mounts[key]), at: mounts[key]}
		for controller := range strings.SplitSeq(key, ",") {
			if controller != h.name {
				h.also = append(h.also, controller)
			}
		}
		all = append(all, h)
	}
	return all
}

// emptyCgroups makes what hierarchies of version 1 are mounted on, and the links to
// it, as fillCgroups does.
func (b *builder) emptyCgroups(top ref) {
	for _, h := range b.l.hierarchies() {
		b.sys("mkdirat", h.name, unix.SYS_MKDIRAT, top, b.p.String(h.name), 0o755)
		for _, also := range h.also {
			l := b.p.Sys("symlinkat", also, unix.SYS_SYMLINKAT, b.p.String(h.name), uint64(top.fd), b.p.String(also))
			b.into(top, l, 1)
		}
	}
}

// cgroupHierarchy shows the container's group in a hierarchy that the host has
// mounted at a path, in a directory of that name.
func (b *builder) cgroupHierarchy(top ref, name, at string, o *mount.Options) error {
	fd, err := cloneHost(at+b.home.Path(), &mount.Options{Bind: true, Set: o.Set})
	if err != nil {
		return err
	}
	b.own(fd)
	m := b.sys("move_mount", name, unix.SYS_MOVE_MOUNT, known(fd), b.addr.empty, uint64(top.fd), b.p.String(name), unix.MOVE_MOUNT_F_EMPTY_PATH)
	b.into(top, m, 2)
	return nil
}

// mask hides a path: a directory behind an empty one, a file behind the null
// device. What is not there, which are most, needs no hiding.
//
// To try to mount one and then the other would take no second look at it, but
// the clone that was refused would be unmounted when it is closed, which waits
// for every processor.
func (b *builder) mask(p string) {
	b.stage(`error mounting "" to rootfs at "`+p+`"`, "")
	p = inside(p)
	at, name := b.fileSystemOf(p)
	there := b.openIn(at, name, b.addr.any).Allow(unix.ENOENT, unix.ENOTDIR)
	dir := b.sys("openat2", p, unix.SYS_OPENAT2, result(there), b.addr.dot, b.addr.dir, 24).Retry(attempts).Allow(unix.ENOTDIR)
	empty := b.attachTo(b.emptyTree(), result(there), p)
	dir.ElseNext()
	b.attachTo(b.cloneTree(b.null, "/null", 0), result(there), p)
	empty.ThenNext()
	there.ElseNext()
}

// protect makes a path read-only by a bind mount of it on itself.
func (b *builder) protect(p string) {
	b.stage(`error mounting "`+p+`" to rootfs at "`+p+`"`, "")
	p = inside(p)
	at, name := b.fileSystemOf(p)
	there := b.openIn(at, name, b.addr.any).Allow(unix.ENOENT, unix.ENOTDIR)
	tree := b.cloneTree(result(there), p, unix.AT_RECURSIVE)
	b.attributes(tree, p, unix.MOUNT_ATTR_RDONLY, unix.AT_RECURSIVE)
	b.attachTo(tree, result(there), p)
	there.ElseNext()
}
