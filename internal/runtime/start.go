package runtime

import (
	"context"
	"errors"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/mount"
	"lade/internal/linux/ns"
	"lade/internal/linux/pty"
	"lade/internal/linux/resctrl"
	"lade/internal/linux/sys"
	"lade/internal/program"
)

// initPath is where the container sees lade-init.
const initPath = "/sbin/docker-init"

// Start starts the container and returns when its program was executed. When
// ctx ends, the start is given up until its program runs, not afterwards. On
// failure nothing is left of it.
//
// Errors: *StartError for what the request is to blame for; Conflict when the
// control group is in use; Invalid, NotImplemented.
func (l *Launcher) Start(ctx context.Context, c *Container) (*Process, error) {
	began := time.Now()
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if err := check(c.Spec); err != nil {
		return nil, err
	}
	if c.Prepared != nil {
		return nil, errdefs.NotImplementedf("hooks in a container that is started at once")
	}
	p, dangling, err := l.start(ctx, c, nil)
	if dangling != nil {
		p, _, err = l.start(ctx, c, dangling)
	}
	if err != nil {
		return nil, err
	}
	p.Prepare = p.StartedAt.Sub(began) - p.Program
	return p, nil
}

// target is a place for a mount: a path in the container.
type target struct {
	path string
	file bool
}

// start tries a start. When it fails because a mount's destination is a
// symbolic link to nothing, which the program cannot follow, it returns the
// destination: it is to be passed to a second try, which makes it beforehand.
func (l *Launcher) start(ctx context.Context, c *Container, make *target) (_ *Process, dangling *target, err error) {
	p, err := l.take()
	if err != nil {
		return nil, nil, err
	}
	defer l.give(p)
	b := newBuilder(l, p)
	b.make = make
	defer b.close()
	defer func() {
		if err != nil {
			sys.CloseAll(b.master)
			err = errors.Join(err, b.removeGroups())
		}
	}()
	o, err := b.container(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	r, err := b.run(ctx, o, c.ID)
	if err != nil {
		return nil, b.danglingTarget(err), b.explain(err)
	}
	if b.time {
		if err := l.checkClocks(r); err != nil {
			return nil, nil, err
		}
	}
	if b.stocks {
		l.stock.ordered(b.wants, b.user != nil)
	}
	if !c.Next.Empty() && !l.o.Once {
		l.stock.expect(c.Next)
	}
	b.ready.wait(ctx, r.Pidfd)
	return &Process{
		Pid: r.Pid, Pidfd: r.Pidfd, Console: b.master, Cgroup: b.group,
		StartedAt: r.Began.Add(r.Took), Program: r.Took, Root: b.keepRoot(&c.Rootfs),
	}, nil, nil
}

// removeGroups takes back what createGroup and createResctrl have made.
func (b *builder) removeGroups() error {
	return errors.Join(b.l.removeGroup(b.group), resctrl.Remove(resctrl.Dir, b.resctrl))
}

// createResctrl makes the container's groups of the resctrl file system.
func (b *builder) createResctrl(id string, r *specs.LinuxIntelRdt) error {
	if r == nil {
		return nil
	}
	f, err := resctrl.At(resctrl.Dir)
	if err != nil {
		return err
	}
	tasks, err := f.Create(id, r)
	if err != nil {
		return err
	}
	b.resctrl = resctrl.Own(id, r)
	b.tasks = append(b.tasks, tasks...)
	b.fds = append(b.fds, tasks...)
	return nil
}

// removeGroup deletes the control group of a failed start, unless another made
// it.
func (l *Launcher) removeGroup(g *cgroup.Group) error {
	if g == nil || g.Taken {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanUpTime)
	defer cancel()
	if err := g.Delete(ctx); err != nil && !errors.Is(err, errdefs.NotFound) {
		return err
	}
	return nil
}

// check refuses what can never work.
func check(s *specs.Spec) error {
	if s == nil || s.Process == nil || s.Linux == nil {
		return errdefs.Invalidf("the spec needs process and linux")
	}
	if err := checkProcess(s.Process); err != nil {
		return err
	}
	seen := map[specs.LinuxNamespaceType]bool{}
	for _, n := range s.Linux.Namespaces {
		switch {
		case ns.Flag(string(n.Type)) == 0:
			return errdefs.Invalidf("invalid namespace type %q", n.Type)
		case seen[n.Type]:
			return errdefs.Invalidf("malformed spec file: duplicated ns %q", n.Type)
		}
		seen[n.Type] = true
	}
	has := separate(s.Linux.Namespaces)
	if err := checkNames(s, has[specs.UTSNamespace]); err != nil {
		return err
	}
	if err := checkValues(s.Linux); err != nil {
		return err
	}
	if err := checkUser(s, seen[specs.UserNamespace]); err != nil {
		return err
	}
	if err := checkTime(s, seen[specs.TimeNamespace]); err != nil {
		return err
	}
	return checkLinux(s.Linux, has)
}

func checkProcess(p *specs.Process) error {
	if p == nil || len(p.Args) == 0 {
		return errdefs.Invalidf("args must not be empty")
	}
	if p.Cwd != "" && !path.IsAbs(p.Cwd) {
		return errdefs.Invalidf("Cwd must be an absolute path")
	}
	if err := checkScheduling(p); err != nil {
		return err
	}
	if err := checkRlimits(p.Rlimits); err != nil {
		return err
	}
	for _, list := range [][]string{p.Args, p.Env, {p.Cwd}} {
		for _, s := range list {
			if strings.ContainsRune(s, 0) {
				return errdefs.Invalidf("%q contains a NUL byte", s)
			}
		}
	}
	return nil
}

// container compiles the start of a container.
func (b *builder) container(ctx context.Context, c *Container) (program.Options, error) {
	o := program.Options{Cgroup: -1, PidNS: -1, OwnPidNS: b.l.pidNS, PidNSKind: unix.CLONE_NEWPID}
	if err := b.listen(c.Listener); err != nil {
		return o, err
	}
	s := c.Spec
	b.mountLabel, b.ordered = s.Linux.MountLabel, c.Ordered
	proc := *s.Process
	if err := b.enterUser(ctx, c); err != nil {
		return o, err
	}
	if err := b.makeMaps(ctx, s); err != nil {
		return o, err
	}
	// One after the other: to do both at a time costs more in wake-ups than it
	// saves.
	id, err := b.rootAndUser(c)
	if err != nil {
		return o, err
	}
	if b.group, err = b.createGroup(s.Linux); err != nil {
		return o, err
	}
	if b.group != nil {
		if b.home = b.group; c.Delegate {
			if b.home, err = b.group.Delegate(); err != nil {
				return o, err
			}
			if b.leaf, err = b.home.Leaf(); err != nil {
				return o, err
			}
			b.own(b.leaf)
		}
		if err := b.giveGroup(c); err != nil {
			return o, err
		}
		if err := b.attachGroup(b.home, &o); err != nil {
			return o, err
		}
	}
	if err := b.createResctrl(c.ID, s.Linux.IntelRdt); err != nil {
		return o, err
	}
	if b.user != nil {
		err = b.userNamespaces(c, &o)
	} else {
		b.attachTasks()
		err = b.namespaces(c, &o)
	}
	if err != nil {
		return o, err
	}
	b.enterLeaf()
	b.internal()
	b.p.Sys("umask", "", unix.SYS_UMASK, 0)
	b.placeRoot(c)
	if b.place == foreign {
		b.settings(s)
	} else if err := b.furnish(c, &proc); err != nil {
		return o, err
	}
	if cwd := inside(proc.Cwd); cwd != "/" {
		b.stage(`mkdir "`+cwd+`"`, bare)
		b.ensure(cwd, false)
	}
	b.names(s)
	if c.Prepared != nil {
		b.parkBefore()
	}
	b.internal()
	for _, r := range b.readOnly {
		b.attributes(r, "read-only", unix.MOUNT_ATTR_RDONLY, 0)
	}
	if s.Root != nil && s.Root.Readonly && b.place != foreign {
		b.attributes(known(b.root), "read-only root", unix.MOUNT_ATTR_RDONLY, 0)
	}
	b.enterRoot(s)
	if err := b.inherited(s.Linux.Personality, s.Linux.MemoryPolicy); err != nil {
		return o, err
	}
	b.internal()
	if !c.KeepKeyring {
		// A keyring of its own; not where the host's policy or quota is against it.
		b.p.Sys("keyctl", "", unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, b.p.String("_ses."+c.ID)).AllowAll()
	}
	streams := [3]int{c.Stdin, c.Stdout, c.Stderr}
	if b.user != nil {
		if err := b.giveStreams(streams, &id); err != nil {
			return o, err
		}
	}
	b.preserve = c.Preserve
	b.standard(streams, id, proc.Terminal)
	if c.Late != nil {
		if err := c.Late(c); err != nil {
			return o, err
		}
	}
	b.become(&proc, id, filter{c.Filter, c.FilterFlags})
	return o, nil
}

// furnish fills the root: what the spec mounts, devices, a terminal, settings,
// and what is not to be seen.
func (b *builder) furnish(c *Container, proc *specs.Process) error {
	s := c.Spec
	for i := range s.Mounts {
		if err := b.mount(&s.Mounts[i], c); err != nil {
			return err
		}
	}
	if c.Init {
		if err := b.addInit(proc); err != nil {
			return err
		}
	}
	b.devices(s)
	if proc.Terminal {
		if err := b.openConsole(proc); err != nil {
			return err
		}
	}
	b.settings(s)
	for _, p := range s.Linux.MaskedPaths {
		b.mask(p)
	}
	for _, p := range s.Linux.ReadonlyPaths {
		b.protect(p)
	}
	return nil
}

// rootAndUser mounts the root and looks the user up there.
func (b *builder) rootAndUser(c *Container) (id identity, err error) {
	if b.place, err = b.placeOf(c); err != nil {
		return identity{}, err
	}
	b.stocks = b.place == alone && !b.l.o.Once && !b.l.host.nested
	if err := b.openRoot(c); err != nil {
		return identity{}, err
	}
	if b.make != nil {
		if err := b.makeAll(b.make); err != nil {
			return identity{}, err
		}
	}
	return whoami(b.root, c.User, c.GroupAdd, &c.Spec.Process.User, c.SpecUser)
}

// createGroup creates the container's control group, if it is to have one.
func (b *builder) createGroup(li *specs.Linux) (*cgroup.Group, error) {
	if b.l.groups == nil || li.CgroupsPath == "" {
		return nil, nil
	}
	return b.l.groups.Create(li.CgroupsPath, withDefaultDevices(li.Resources))
}

// withDefaultDevices allows what every container may use, after the spec's own
// rules, as runc does.
func withDefaultDevices(r *specs.LinuxResources) *specs.LinuxResources {
	if r == nil || len(r.Devices) == 0 {
		return r
	}
	out := *r
	rules := slices.Clip(out.Devices)
	allow := func(kind string, major, minor int64, access string) {
		rule := specs.LinuxDeviceCgroup{Allow: true, Type: kind, Access: access}
		if major >= 0 {
			rule.Major = &major
		}
		if minor >= 0 {
			rule.Minor = &minor
		}
		rules = append(rules, rule)
	}
	allow("c", -1, -1, "m")
	allow("b", -1, -1, "m")
	for _, d := range defaultDevices() {
		allow("c", int64(d.major), int64(d.minor), "rwm")
	}
	allow("c", 5, 1, "rwm")    // console
	allow("c", 136, -1, "rwm") // pts
	allow("c", 5, 2, "rwm")    // ptmx
	out.Devices = rules
	return &out
}

// attachGroup says that the child is to be in a group; attachTasks, with which
// ops it goes there.
func (b *builder) attachGroup(g *cgroup.Group, o *program.Options) error {
	tasks, into, err := g.AttachFDs()
	if err != nil {
		return err
	}
	o.Cgroup = b.own(into)
	b.tasks = tasks
	for _, fd := range tasks {
		b.own(fd)
	}
	return nil
}

func (b *builder) attachTasks() {
	b.stage("unable to apply cgroup configuration", "")
	for _, fd := range b.tasks {
		// Not cgroup.procs: that waits for every processor.
		b.p.Sys("write", "tasks", unix.SYS_WRITE, uint64(fd), b.addr.zero, 1)
	}
}

// enterLeaf moves the child out of the way of the groups that it will make; what
// it has become the root of stays.
func (b *builder) enterLeaf() {
	if b.leaf >= 0 {
		b.stage("unable to apply cgroup configuration", "")
		b.p.Sys("write", "cgroup.procs", unix.SYS_WRITE, uint64(b.leaf), b.addr.zero, 1)
	}
}

// namespaces says which are new and joins the others.
func (b *builder) namespaces(c *Container, o *program.Options) error {
	b.stage("error joining namespaces", "")
	var here uint64 // made by the child itself
	for _, n := range c.Spec.Linux.Namespaces {
		flag := ns.Flag(string(n.Type))
		switch {
		case n.Type == specs.NetworkNamespace && c.NetNS >= 0:
		case n.Type == specs.TimeNamespace && n.Path == "":
			b.time = true
		case n.Path != "":
			fd, err := unix.Open(n.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return &StartError{Code: codeFailed, Op: "namespace path", Path: n.Path, Errno: errnoOf(err)}
			}
			b.own(fd)
			if n.Type == specs.PIDNamespace {
				o.PidNS = fd
				continue
			}
			b.p.Sys("setns", n.Path, unix.SYS_SETNS, uint64(fd), flag)
		case n.Type == specs.CgroupNamespace:
			// Its root is the group that the caller is in at that moment: the
			// container's, where the child is only now.
			here |= flag
		case n.Type == specs.MountNamespace && b.place == beside:
			here |= flag
		case n.Type == specs.MountNamespace:
			// A copy of the empty one: every mount that is copied costs 1.2 µs, and
			// again at the end.
			base, err := b.base()
			if err != nil {
				return err
			}
			b.p.Sys("setns", "empty mount namespace", unix.SYS_SETNS, uint64(base), flag)
			here |= flag
		case b.joinMade(flag):
		default:
			o.Flags |= flag
			if n.Type == specs.NetworkNamespace {
				b.loopback()
			}
		}
	}
	b.p.Sys("unshare", "mount and cgroup namespaces", unix.SYS_UNSHARE, here)
	if c.NetNS >= 0 {
		b.p.Sys("setns", "network namespace", unix.SYS_SETNS, uint64(c.NetNS), unix.CLONE_NEWNET)
	}
	return nil
}

// joinMade makes the child join the namespace of that kind that is ready: of the
// stock, or made ahead; false: none is.
func (b *builder) joinMade(kind uint64) bool {
	fd, ok := b.stockedNamespace(kind)
	if !ok {
		if fd, ok = b.l.ahead.take(kind); ok {
			b.own(fd)
		}
	}
	if ok {
		b.p.Sys("setns", "made ahead", unix.SYS_SETNS, uint64(fd), kind)
	}
	return ok
}

// loopback brings the device lo of a new network namespace up, and returns the
// socket that it needs for that.
func (b *builder) loopback() ref {
	s := result(b.p.Sys("socket", "", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0))
	req := b.p.Space(40) // struct ifreq
	copy(req, "lo")
	req[16], req[17] = unix.IFF_UP|unix.IFF_RUNNING, 0
	b.sys("ioctl", "SIOCSIFFLAGS lo", unix.SYS_IOCTL, s, unix.SIOCSIFFLAGS, program.Address(req))
	return s
}

// addInit puts lade-init into the container and in front of its command.
func (b *builder) addInit(proc *specs.Process) error {
	what := `error mounting "` + b.l.o.InitPath + `" to rootfs at "` + initPath + `"`
	b.stage(what, "")
	fd, err := cloneHost(b.l.o.InitPath, &mount.Options{Bind: true, Set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV})
	if err != nil {
		return err
	}
	b.attach(known(b.own(fd)), initPath, true)
	proc.Args = append([]string{initPath, "--"}, proc.Args...)
	if b.preserve > 0 { // its place is taken
		return nil
	}
	b.ready, err = b.newReadiness()
	return err
}

type device struct {
	path         string
	kind         uint32
	major, minor uint32
	mode         uint32
	uid, gid     uint32
}

// defaultDevices are in every container: config-linux.md, "Default Devices".
func defaultDevices() [6]device {
	d := func(name string, major, minor uint32) device {
		return device{path: "/dev/" + name, kind: unix.S_IFCHR, major: major, minor: minor, mode: 0o666}
	}
	return [6]device{d("null", 1, 3), d("zero", 1, 5), d("full", 1, 7), d("random", 1, 8), d("urandom", 1, 9), d("tty", 5, 0)}
}

// devices fills /dev, unless it is the host's.
func (b *builder) devices(s *specs.Spec) {
	if slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool {
		return inside(m.Destination) == "/dev" && (m.Type == "bind" || mount.Parse(m.Options).Bind)
	}) {
		return
	}
	if b.filled > 0 && b.dev.fd == b.filled { // of the stock, with what is in every one
		for _, d := range s.Linux.Devices {
			b.device(deviceOf(&d))
		}
		return
	}
	for _, d := range allDevices(s) {
		b.device(d)
	}
	b.stage("error creating device links", "")
	dev := b.devDir()
	for _, l := range devLinks() {
		o := b.p.Sys("symlinkat", "/dev/"+l[1], unix.SYS_SYMLINKAT, b.p.String(l[0]), uint64(dev.fd), b.p.String(l[1])).Allow(unix.EEXIST)
		b.into(dev, o, 1)
	}
}

// devLinks are the symbolic links that are in every /dev: what they lead to, and
// their names. Source: config-linux.md, "Dev symbolic links".
func devLinks() [6][2]string {
	return [...][2]string{
		{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"},
		{"pts/ptmx", "ptmx"}, {"/proc/kcore", "core"},
	}
}

func deviceOf(d *specs.LinuxDevice) device {
	out := device{path: inside(d.Path), major: uint32(d.Major), minor: uint32(d.Minor), mode: 0o666}
	switch d.Type {
	case "b":
		out.kind = unix.S_IFBLK
	case "p":
		out.kind = unix.S_IFIFO
	default:
		out.kind = unix.S_IFCHR
	}
	if d.FileMode != nil {
		out.mode = uint32(d.FileMode.Perm())
	}
	if d.UID != nil {
		out.uid = *d.UID
	}
	if d.GID != nil {
		out.gid = *d.GID
	}
	return out
}

// devDir returns the directory /dev.
func (b *builder) devDir() ref {
	if b.dev.valid() {
		return b.dev
	}
	return b.ensure("/dev", false)
}

func (b *builder) device(d device) {
	b.stage("error creating device nodes", "")
	if b.user != nil && b.placed(d.path) {
		return
	}
	parent, name := path.Split(d.path)
	dir := b.dev
	if parent != "/dev/" || !dir.valid() {
		dir = b.ensure(strings.TrimSuffix(parent, "/"), false)
	}
	if b.l.host.nested && b.bindDevice(d) {
		return
	}
	at := b.p.String(name)
	b.sys("mknodat", d.path, unix.SYS_MKNODAT, dir, at, uint64(d.kind|d.mode), unix.Mkdev(d.major, d.minor)).Allow(unix.EEXIST)
	if d.uid != 0 || d.gid != 0 {
		b.sys("fchownat", d.path, unix.SYS_FCHOWNAT, dir, at, uint64(d.uid), uint64(d.gid), unix.AT_SYMLINK_NOFOLLOW)
	}
}

// openConsole makes /dev/console the container's terminal.
func (b *builder) openConsole(proc *specs.Process) error {
	if b.console < 0 {
		return errdefs.Invalidf("a terminal needs a mount of type devpts at /dev/pts")
	}
	b.stage(`error mounting "" to rootfs at "/dev/console"`, "")
	b.attach(b.cloneTree(known(b.console), "terminal", 0), "/dev/console", true)
	if z := proc.ConsoleSize; z != nil {
		return pty.Resize(b.master, uint16(z.Height), uint16(z.Width))
	}
	return nil
}

// settings writes what is set through procfs: the container's own, by
// descriptor, before anything is mounted over parts of it.
func (b *builder) settings(s *specs.Spec) {
	outside := b.user != nil // the first part of the program has done it
	score := s.Process.OOMScoreAdj != nil && !outside
	clocks := b.time && !outside
	if len(s.Linux.Sysctl) == 0 && !score && !clocks && !labelled(s.Process) {
		return
	}
	proc := b.proc
	if !proc.valid() {
		proc = b.procfs()
	}
	for key, value := range s.Linux.Sysctl {
		b.stage("write sysctl key "+key, "")
		if outside && key == "kernel.domainname" {
			// The file is the host root's (proc_do_uts_string in kernel/utsname_sysctl.c).
			b.p.Sys("setdomainname", value, unix.SYS_SETDOMAINNAME, b.p.String(value), uint64(len(value)))
			continue
		}
		// A slash in a key stands for itself, as sysctl(8) has it for devices.
		b.write(proc, "sys/"+strings.ReplaceAll(key, ".", "/"), value, unix.RESOLVE_NO_SYMLINKS)
	}
	if score {
		b.oomScore(proc, s.Process)
	}
	if clocks {
		b.timeOffsets(proc, s.Linux)
	}
	b.label(proc, s.Process)
	if s.Process.SelinuxLabel != "" {
		// Of the session keyring that it gets; execve(2) resets it.
		b.write(proc, "self/attr/keycreate", s.Process.SelinuxLabel, 0)
	}
}

func (b *builder) oomScore(proc ref, p *specs.Process) {
	if p.OOMScoreAdj != nil {
		b.stage("unable to write oom_score_adj", "")
		b.write(proc, "self/oom_score_adj", strconv.Itoa(*p.OOMScoreAdj), 0)
	}
}

// procfs makes a procfs of the child's pid namespace that is mounted nowhere.
func (b *builder) procfs() ref {
	b.internal()
	return b.filesystem("proc", nil, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
}

func labelled(p *specs.Process) bool { return p.ApparmorProfile != "" || p.SelinuxLabel != "" }

// label says under which profile or label of a security module the execve runs.
func (b *builder) label(proc ref, p *specs.Process) {
	if p.ApparmorProfile != "" {
		b.stage("unable to apply apparmor profile", "")
		b.write(proc, "self/attr/apparmor/exec", "exec "+p.ApparmorProfile, 0)
	}
	if p.SelinuxLabel != "" {
		b.stage("unable to set selinux label", "")
		b.write(proc, "self/attr/exec", p.SelinuxLabel, 0)
	}
}

func (b *builder) names(s *specs.Spec) {
	if s.Hostname != "" {
		b.stage("sethostname", bare)
		b.p.Sys("sethostname", s.Hostname, unix.SYS_SETHOSTNAME, b.p.String(s.Hostname), uint64(len(s.Hostname)))
	}
	if s.Domainname != "" {
		b.stage("setdomainname", bare)
		b.p.Sys("setdomainname", s.Domainname, unix.SYS_SETDOMAINNAME, b.p.String(s.Domainname), uint64(len(s.Domainname)))
	}
}

// errnoOf returns the errno in err's chain, or EIO.
func errnoOf(err error) syscall.Errno {
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e
	}
	return unix.EIO
}
