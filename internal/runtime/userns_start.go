package runtime

import (
	"context"
	"errors"
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/idmap"
	"lade/internal/linux/mount"
	"lade/internal/linux/ns"
	"lade/internal/linux/overlay"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/rootpath"
	"lade/internal/linux/sys"
	"lade/internal/program"
)

// userNamespaces compiles the first part of the program of a container with a
// user namespace, and the beginning of the second.
func (b *builder) userNamespaces(c *Container, o *program.Options) error {
	u := b.user
	b.stage("error joining namespaces", "")
	var made uint64 // of the new ones what is ready
	for _, n := range c.Spec.Linux.Namespaces {
		flag := ns.Flag(string(n.Type))
		switch {
		case n.Type == specs.UserNamespace, n.Type == specs.MountNamespace, n.Type == specs.CgroupNamespace && n.Path == "":
		case n.Type == specs.NetworkNamespace && c.NetNS >= 0:
			b.p.Sys("setns", "network namespace", unix.SYS_SETNS, uint64(c.NetNS), unix.CLONE_NEWNET)
		case n.Path != "":
			fd, err := unix.Open(n.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return &StartError{Code: codeFailed, Op: "namespace path", Path: n.Path, Errno: errnoOf(err)}
			}
			b.p.Sys("setns", n.Path, unix.SYS_SETNS, uint64(b.own(fd)), flag)
		case n.Type == specs.TimeNamespace:
			b.time = true
		default:
			u.news |= flag
			if b.joinMade(flag) {
				made |= flag
			}
		}
	}
	if b.place == alone {
		visible, err := b.l.visible.open(b.l.makeVisible)
		if err != nil {
			return err
		}
		b.p.Sys("setns", "empty mount namespace", unix.SYS_SETNS, uint64(visible), unix.CLONE_NEWNS)
	}
	b.p.Sys("umask", "", unix.SYS_UMASK, 0)
	b.asHostRoot(c.Spec)
	if err := b.raise(c.Spec.Process.Rlimits); err != nil {
		return err
	}
	b.internal()
	b.p.Sys("setns", "user namespace", unix.SYS_SETNS, uint64(u.fd), unix.CLONE_NEWUSER)
	into := o.Cgroup
	if b.delegates(c.Spec) {
		into = -1 // the group is its own then, and it could not enter it
	} else {
		o.Cgroup = -1
	}
	// An IPC namespace gives its message queues to whoever makes it.
	later := u.news &^ made & unix.CLONE_NEWIPC
	b.p.Fork(u.news&^made&^later|unix.CLONE_NEWNS, into)
	b.attachTasks()
	b.stage("error joining namespaces", "")
	b.becomeRoot()
	if ownCgroups(c.Spec) {
		later |= unix.CLONE_NEWCGROUP
	}
	if later != 0 {
		b.p.Sys("unshare", "ipc and cgroup namespaces", unix.SYS_UNSHARE, later)
	}
	if u.news&^made&unix.CLONE_NEWNET != 0 {
		b.loopback()
	}
	return nil
}

// becomeRoot makes a process that has entered a user namespace its root: until
// then it is still the host's, an owner of the host's files.
func (b *builder) becomeRoot() {
	b.p.Sys("setgroups", "", unix.SYS_SETGROUPS, 0, 0)
	b.p.Sys("setresgid", "", unix.SYS_SETRESGID, 0, 0, 0)
	b.p.Sys("setresuid", "", unix.SYS_SETRESUID, 0, 0, 0)
}

// asHostRoot makes what the container's root cannot: nodes of devices, and
// file systems of namespaces that are not its own.
func (b *builder) asHostRoot(s *specs.Spec) {
	u := b.user
	if s.Process.OOMScoreAdj != nil || b.time {
		proc := b.procfs()
		b.oomScore(proc, s.Process)
		b.timeOffsets(proc, s.Linux)
	}
	for i := range s.Mounts {
		m := &s.Mounts[i]
		o := mount.Parse(m.Options)
		dest := inside(m.Destination)
		name(o, m)
		b.context(o, m)
		b.stage(`error mounting "`+m.Source+`" to rootfs at "`+m.Destination+`"`, "")
		switch {
		case o.Bind || m.Type == "bind":
		case m.Type == "sysfs" && u.news&unix.CLONE_NEWNET == 0, m.Type == "mqueue" && u.news&unix.CLONE_NEWIPC == 0:
			u.made[dest] = b.filesystem(m.Type, o.Super, o.Set)
			if m.Type == "mqueue" {
				b.labelRoot(u.made[dest])
			}
		case m.Type == "tmpfs" && dest == "/dev":
			super := slices.DeleteFunc(slices.Clone(o.Super), func(s string) bool { return strings.HasPrefix(s, "uid=") || strings.HasPrefix(s, "gid=") })
			attrs := o.Set &^ unix.MOUNT_ATTR_RDONLY
			if fs, ok := b.kitDev(s, super, attrs); ok {
				u.made[dest] = fs
				break
			}
			fs := b.filesystem("tmpfs", append(super, "uid="+strconv.FormatUint(uint64(u.uid), 10), "gid="+strconv.FormatUint(uint64(u.gid), 10)), attrs)
			u.made[dest] = fs
			b.nodes(allDevices(s), fs)
		}
	}
}

// kitDev takes the /dev of the kit.
func (b *builder) kitDev(s *specs.Spec, options []string, attrs uint64) (dev ref, ok bool) {
	if !plainDev(s) {
		return ref{}, false
	}
	if dev, ok = b.stocked("tmpfs", options, attrs, defaultDev); !ok {
		return ref{}, false
	}
	b.filled = dev.fd
	for _, d := range defaultDevices() {
		b.user.made[d.path] = dev
	}
	var own []device
	for _, d := range s.Linux.Devices {
		own = append(own, deviceOf(&d))
	}
	b.nodes(own, dev)
	return dev, true
}

// nodes makes devices below /dev.
func (b *builder) nodes(devices []device, dev ref) {
	dirs := map[string]bool{}
	for _, d := range devices {
		name, ok := strings.CutPrefix(d.path, "/dev/")
		if !ok {
			continue
		}
		b.stage("error creating device nodes", "")
		for i, c := range name {
			if dir := name[:i]; c == '/' && !dirs[dir] {
				dirs[dir] = true
				at := b.p.String(dir)
				b.sys("mkdirat", dir, unix.SYS_MKDIRAT, dev, at, 0o755)
				b.giveAway(dev, dir, at, 0, 0)
			}
		}
		at := b.p.String(name)
		b.sys("mknodat", d.path, unix.SYS_MKNODAT, dev, at, uint64(d.kind|d.mode), unix.Mkdev(d.major, d.minor)).Allow(unix.EEXIST)
		b.giveAway(dev, d.path, at, d.uid, d.gid)
		b.user.made[d.path] = dev
	}
}

// giveAway makes a file that the host's root has made one of the container's.
// An owner that is not mapped leaves it to the host's root.
func (b *builder) giveAway(dir ref, object string, name uint64, uid, gid uint32) {
	if u, g, ok := b.user.ids.Host(uid, gid); ok {
		b.sys("fchownat", object, unix.SYS_FCHOWNAT, dir, name, uint64(u), uint64(g), unix.AT_SYMLINK_NOFOLLOW)
	}
}

// giveStreams gives a process's standard streams to its user, so that /dev/stdout
// can be opened again: only the host's root may do that.
func (b *builder) giveStreams(streams [3]int, id *identity) error {
	if b.console < 0 {
		return GiveStreams(b.user.ids, streams, id.UID, id.GID, id.Groups)
	}
	host, err := hostUser(b.user.ids, id.UID, id.GID, id.Groups)
	if err != nil {
		return err
	}
	return sys.Error("fchown", "terminal", unix.Fchown(b.console, int(host), -1))
}

// hostUser returns a user as the host has it. Errors: Invalid for one who is not
// mapped, or whose groups are not.
func hostUser(ids idmap.Map, uid, gid uint32, groups []uint32) (uint32, error) {
	host, _, ok := ids.Host(uid, 0)
	if _, _, group := ids.Host(0, gid); !ok || !group {
		return 0, errdefs.Invalidf("the user %d:%d is not mapped in the container's user namespace", uid, gid)
	}
	for _, g := range groups {
		if _, _, ok := ids.Host(0, g); !ok {
			return 0, errdefs.Invalidf("the group %d is not mapped in the container's user namespace", g)
		}
	}
	return host, nil
}

// GiveStreams gives a process's standard streams, as far as they are pipes, to its
// user, by the numbers inside: runtimes cannot, as the host's root made them. −1 is
// none. Errors: Invalid for a user or groups that are not mapped.
func GiveStreams(ids idmap.Map, streams [3]int, uid, gid uint32, groups []uint32) error {
	host, err := hostUser(ids, uid, gid, groups)
	if err != nil {
		return err
	}
	for _, fd := range streams {
		if fd >= 0 && isPipe(fd) {
			if err := unix.Fchown(fd, int(host), -1); err != nil {
				return sys.Error("fchown", "standard stream", err)
			}
		}
	}
	return nil
}

// giveGroup gives the container's root its control group, as far as the kernel
// says that this is safe.
func (b *builder) giveGroup(c *Container) error {
	if b.user == nil || !c.Delegate && !b.delegates(c.Spec) {
		return nil
	}
	return b.home.Give(int(b.user.uid), int(b.user.gid))
}

// translated returns the directory that holds all of an overlay's layers, and a
// detached, id-mapped mount of it.
func (b *builder) translated(r *Rootfs) (base string, tree int, err error) {
	base = path.Dir(r.Lower[0])
	for _, dir := range append([]string{r.Upper, r.Work}, r.Lower...) {
		for dir != "" && base != "/" && !strings.HasPrefix(dir, base+"/") {
			base = path.Dir(base)
		}
	}
	tree, err = cloneHost(base, &mount.Options{Bind: true})
	if err != nil {
		return "", -1, err
	}
	if err := idmap.Tree(tree, b.user.fd, false); err != nil {
		sys.CloseAll(tree)
		return "", -1, err
	}
	return base, tree, nil
}

// mountUser makes the root of a container with a user namespace.
func (b *builder) mountUser(r *Rootfs) (fd int, err error) {
	if len(r.Lower) > 0 {
		return b.mountTranslated(overlay.Options{Lower: r.Lower, Upper: r.Upper, Work: r.Work, Volatile: r.Volatile, Context: r.Context}, r)
	}
	if fd, err = r.Mount(b.l.host.features()); err == nil && r.Translate {
		if err = idmap.Tree(fd, b.user.fd, false); err != nil {
			sys.CloseAll(fd)
		}
	}
	return fd, err
}

// mountTranslated mounts an overlay whose files belong to the user namespace's
// ids, whatever is stored: no layer is copied or changed.
func (b *builder) mountTranslated(o overlay.Options, r *Rootfs) (fd int, err error) {
	if o.Base, o.Tree, err = b.translated(r); err != nil {
		return -1, err
	}
	defer b.l.closeLater(o.Tree)
	// The kernel makes files of its own in the work directory, as who mounts.
	mount := func() error {
		return idmap.As(b.user.uid, b.user.gid, func() (err error) {
			fd, err = overlay.Mount(o, b.l.host.features())
			return err
		})
	}
	fd, err = -1, unix.EINVAL
	if !b.l.attachLayers.Load() {
		err = mount()
	}
	if errors.Is(err, unix.EINVAL) {
		// Before Linux 6.15 a layer must be in the mount namespace.
		var again error
		copied, aerr := ns.Attached(o.Tree, func() error {
			again = mount()
			return again
		})
		sys.CloseAll(copied)
		if aerr != nil && again == nil {
			sys.CloseAll(fd)
			return -1, aerr
		}
		if err = again; err == nil {
			b.l.attachLayers.Store(true)
		}
	}
	if errors.Is(err, unix.EINVAL) {
		return -1, errdefs.NotImplementedf("user namespaces need an overlayfs with id-mapped layers (Linux 5.19): %w", err)
	}
	return fd, err
}

// makeAll makes a place for a mount in the root.
func (b *builder) makeAll(t *target) error {
	if b.user == nil {
		return rootpath.MakeAll(b.root, t.path, t.file)
	}
	return idmap.As(b.user.uid, b.user.gid, func() error { return rootpath.MakeAll(b.root, t.path, t.file) })
}

// translate applies the id mapping of a bind mount.
func (b *builder) translate(tree int, o *mount.Options, m *specs.Mount) error {
	own := idmap.Map{UID: m.UIDMappings, GID: m.GIDMappings}
	if !o.IDMap && !o.IDMapAll && own.Empty() {
		return nil
	}
	fd := b.mapping(own)
	if own.Empty() {
		if b.user == nil {
			return errdefs.Invalidf("mount %q: idmap needs a user namespace or mappings", m.Destination)
		}
		fd = b.user.fd
	}
	return idmap.Tree(tree, fd, o.IDMapAll)
}

// delegates reports whether the container's control group becomes its own: it
// can write to what it sees of it, on version 2.
//
// Source: cgroups(7), "Cgroups v2 delegation".
func (b *builder) delegates(s *specs.Spec) bool {
	if b.group == nil || b.l.groups.Version() != cgroup.V2 {
		return false
	}
	return slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool {
		return (m.Type == "cgroup" || m.Type == "cgroup2") && !mount.Parse(m.Options).ReadOnly()
	})
}

// makeVisible makes a mount namespace like l.empty with /proc and /sys: the kernel
// lets a user namespace mount these two only where they are in sight already
// (mount_too_revealing in fs/namespace.c). They show nothing of the host: a pid
// namespace that has ended, a network namespace with nothing in it.
//
// It is made when the first such container starts.
func (l *Launcher) makeVisible() (fd int, err error) {
	fd, err = l.makeVisibleAs(0)
	if l.host.nested && errors.Is(err, unix.EPERM) {
		// The sysfs that we see ourselves is read-only for good: another runtime than
		// lade's has mounted it so. Then every further one must be.
		l.lockedSys.Store(true)
		return l.makeVisibleAs(unix.MOUNT_ATTR_RDONLY)
	}
	return fd, err
}

// makeVisibleAs is makeVisible with further MOUNT_ATTR_* for sysfs.
func (l *Launcher) makeVisibleAs(sysfs uint64) (fd int, err error) {
	if fd, err = ns.Empty(); err != nil {
		return -1, err
	}
	p, err := l.take()
	if err != nil {
		sys.CloseAll(fd)
		return -1, err
	}
	defer l.give(p)
	b := newBuilder(l, p)
	// Made before the namespace is entered: in a user namespace they too can be
	// made only where others are in sight.
	kinds := [...][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}}
	more := [len(kinds)]uint64{0, sysfs}
	var made [len(kinds)]ref
	for i, fs := range kinds {
		made[i] = b.filesystem(fs[0], nil, more[i]|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	}
	p.Sys("setns", "empty mount namespace", unix.SYS_SETNS, uint64(fd), unix.CLONE_NEWNS)
	for i, fs := range kinds {
		at := p.String(fs[1])
		p.Sys("mkdir", fs[1], unix.SYS_MKDIRAT, atCWD, at, 0o555)
		b.sys("move_mount", fs[1], unix.SYS_MOVE_MOUNT, made[i], b.addr.empty, atCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	p.Sys("exit_group", "", unix.SYS_EXIT_GROUP, 0)
	r, err := l.run(context.Background(), p, program.Options{Flags: unix.CLONE_NEWPID | unix.CLONE_NEWNET, Cgroup: -1, PidNS: -1}, "proc and sysfs")
	if err == nil {
		_, _, err = pidfd.Wait(r.Pidfd)
		sys.CloseAll(r.Pidfd)
	}
	if err != nil {
		sys.CloseAll(fd)
		return -1, err
	}
	return fd, nil
}

// allDevices are those of the spec and the default ones that it does not have.
func allDevices(s *specs.Spec) []device {
	var out []device
	for _, d := range s.Linux.Devices {
		out = append(out, deviceOf(&d))
	}
	for _, d := range defaultDevices() {
		if !slices.ContainsFunc(s.Linux.Devices, func(o specs.LinuxDevice) bool { return inside(o.Path) == d.path }) {
			out = append(out, d)
		}
	}
	return out
}

// placed reports whether a device is in a /dev that the first part of the
// program has made.
func (b *builder) placed(dest string) bool {
	from, ok := b.user.made[dest]
	return ok && b.dev.valid() && from == b.dev
}

// placeMade attaches a file system that the first part of the program has made.
func (b *builder) placeMade(dest string, o *mount.Options) bool {
	fs, ok := b.user.made[dest]
	if !ok {
		return false
	}
	if b.ordered {
		// A clone's number is of now: mountinfo shows mounts in the order of their
		// numbers. Before Linux 6.15 what is detached cannot be cloned. That the
		// first one is unmounted, when it is closed, waits for every processor.
		again := b.cloneTree(fs, dest, 0)
		again.op[0].AllowAll()
		fs.op[1] = again.op[0]
	}
	b.attach(fs, dest, false)
	b.covered(dest)
	if dest != "/dev" {
		return true
	}
	if b.fresh == nil {
		b.fresh = map[string]ref{}
	}
	b.fresh[dest], b.dev = fs, fs
	if o.ReadOnly() {
		b.readOnly = append(b.readOnly, fs)
	}
	return true
}

// devpts translates the options of a devpts that the host's root mounts.
func (u *user) devpts(options []string) []string {
	out := slices.Clone(options)
	for i, o := range out {
		k, v, _ := strings.Cut(o, "=")
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil || k != "uid" && k != "gid" {
			continue
		}
		if k == "uid" {
			if id, _, ok := u.ids.Host(uint32(n), 0); ok {
				out[i] = "uid=" + strconv.FormatUint(uint64(id), 10)
			}
		} else if _, id, ok := u.ids.Host(0, uint32(n)); ok {
			out[i] = "gid=" + strconv.FormatUint(uint64(id), 10)
		}
	}
	return out
}

// ownTerminal gives a devpts that the host's root has mounted to the
// container's root.
func (b *builder) ownTerminal(pts int) error {
	for _, name := range []string{".", "ptmx"} {
		if err := unix.Fchownat(pts, name, int(b.user.uid), int(b.user.gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return sys.Error("fchownat", "devpts "+name, err)
		}
	}
	return nil
}

// ownCgroups reports whether the container has a cgroup namespace of its own.
func ownCgroups(s *specs.Spec) bool {
	return slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.CgroupNamespace && n.Path == "" })
}

// checkUser refuses maps that can never work.
func checkUser(s *specs.Spec, own bool) error {
	maps := idmap.Map{UID: s.Linux.UIDMappings, GID: s.Linux.GIDMappings}
	i := slices.IndexFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
	switch {
	case !own && !maps.Empty():
		return errdefs.Invalidf("uidMappings and gidMappings need a user namespace")
	case own && s.Linux.Namespaces[i].Path == "":
		if err := maps.Check(); err != nil {
			return err
		}
	}
	for _, m := range s.Mounts {
		if ids := (idmap.Map{UID: m.UIDMappings, GID: m.GIDMappings}); !ids.Empty() {
			if err := ids.Check(); err != nil {
				return err
			}
		}
	}
	return nil
}
