package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/decode"
	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/resctrl"
	"lade/internal/linux/sys"
	"lade/internal/runtime"
)

// createFlags are those of create and run.
type createFlags struct {
	bundle, consoleSocket, pidFile, pidfdSocket string
	preserve                                    int
	noKeyring, detach, keep                     bool
	atOnce                                      bool // run, not create
}

func parseCreate(name string, args []string) (createFlags, string, error) {
	var c createFlags
	f := newFlags(name)
	f.StringVar(&c.bundle, "bundle", ".", "directory of the bundle")
	f.alias("b", "bundle")
	f.StringVar(&c.consoleSocket, "console-socket", "", "unix socket that receives the terminal")
	f.StringVar(&c.pidfdSocket, "pidfd-socket", "", "unix socket that receives a pidfd of the process")
	f.StringVar(&c.pidFile, "pid-file", "", "file for the process id")
	f.Bool("no-pivot", false, "accepted: what is mounted on is not the host's root")
	f.BoolVar(&c.noKeyring, "no-new-keyring", false, "stay in the caller's session keyring")
	f.IntVar(&c.preserve, "preserve-fds", 0, "hand so many descriptors after the standard ones on")
	c.atOnce = name == "run"
	if c.atOnce {
		f.BoolVar(&c.detach, "detach", false, "do not wait for the end")
		f.alias("d", "detach")
		f.BoolVar(&c.keep, "keep", false, "do not delete after the end")
		f.Bool("no-subreaper", false, "accepted: no subreaper is needed")
	}
	id, err := f.one(args)
	if err != nil {
		return c, "", err
	}
	if c.preserve, err = preserved(c.preserve); err != nil {
		return c, "", err
	}
	for _, p := range []*string{&c.bundle, &c.pidFile} {
		if *p != "" && err == nil {
			*p, err = filepath.Abs(*p)
		}
	}
	return c, id, err
}

// preserved checks that the descriptors to hand on are open, and the caller's.
// With those of socket activation they are n and as many as LISTEN_FDS says:
// sd_listen_fds(3).
func preserved(n int) (int, error) {
	if s := os.Getenv("LISTEN_FDS"); s != "" {
		more, err := strconv.Atoi(s)
		if err != nil || more < 0 {
			return 0, errdefs.Invalidf("unable to convert LISTEN_FDS=%s to a number", s)
		}
		n += more
	}
	if n < 0 {
		return 0, errdefs.Invalidf("--preserve-fds must not be negative")
	}
	for fd := 3; fd < 3+n; fd++ {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		// Ours are close-on-exec, and what was handed to us is not.
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			return 0, errdefs.Invalidf("please check that preserved-fd %d (of %d) is present", fd-3, n)
		}
	}
	return n, nil
}

// parseSpec decodes a configuration and completes what may be left out.
func parseSpec(b []byte) (*specs.Spec, error) {
	var s specs.Spec
	if err := decode.Of[specs.Spec]().Decode(bytes.TrimSpace(b), &s); err != nil {
		return nil, errdefs.Invalidf("config.json: %w", err)
	}
	if s.Version != "" && !strings.HasPrefix(s.Version, "1.") {
		return nil, errdefs.Invalidf("unsupported ociVersion %q", s.Version)
	}
	if s.Root == nil || s.Root.Path == "" {
		return nil, errdefs.Invalidf("config.json needs root.path")
	}
	if s.Linux == nil {
		s.Linux = &specs.Linux{}
	}
	for _, err := range []error{checkDevices(s.Linux), checkMounts(s.Mounts), checkAnnotations(s.Annotations)} {
		if err != nil {
			return nil, err
		}
	}
	return &s, checkHooks(s.Hooks)
}

// request turns a bundle into what the launcher wants, but for the filter.
func request(c *container, s *specs.Spec, f *createFlags) *runtime.Container {
	for i, m := range s.Mounts {
		if (m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")) && !filepath.IsAbs(m.Source) {
			s.Mounts[i].Source = filepath.Join(c.Bundle, m.Source)
		}
	}
	if s.Linux.CgroupsPath = c.Cgroup; c.Scope != "" {
		s.Linux.CgroupsPath = c.Scope
	}
	r := &runtime.Container{
		ID: c.ID, Spec: s, Rootfs: runtime.Rootfs{Path: c.Rootfs}, SpecUser: true, NetNS: -1,
		Stdin: 0, Stdout: 1, Stderr: 2, Preserve: f.preserve, KeepKeyring: f.noKeyring, Ordered: true,
	}
	if c.NoProcess {
		// It can be created, but never started: config.md, "Process".
		s.Process = &specs.Process{Args: []string{""}, Cwd: "/"}
	}
	listen(s.Process)
	return r
}

// listen tells a process that the first preserved descriptors are sockets to
// listen on: it is process 1 of its pid namespace.
func listen(p *specs.Process) {
	if n := os.Getenv("LISTEN_FDS"); n != "" {
		p.Env = append(p.Env, "LISTEN_FDS="+n, "LISTEN_PID=1")
	}
}

// setGroup says where the control group of a container is to be. Without
// --systemd-cgroup, systemd's form "slice:prefix:name" is the path that systemd
// would make.
func (a *app) setGroup(c *container, path string) (err error) {
	s, scope := cgroup.ParseScope(path)
	switch {
	case a.systemd:
		if s, err = scopeOf(c.ID, path); err == nil {
			c.Scope = s.String()
			c.Cgroup, err = s.Path()
		}
	case scope:
		c.Cgroup, err = s.Path()
	case path == "":
		c.Cgroup = "/" + c.ID
	default:
		c.Cgroup = path
	}
	return err
}

func create(ctx context.Context, a *app, args []string) error {
	f, id, err := parseCreate("create", args)
	if err != nil {
		return err
	}
	if mustEnter() {
		return a.enterFor(ctx, &f)
	}
	b, err := a.prepare(&f, id)
	if err != nil {
		return err
	}
	defer b.close()
	if b.spec.Process.Terminal != (f.consoleSocket != "") {
		err = errdefs.Invalidf("a console socket is needed for a terminal, and only then")
	} else {
		err = b.create(ctx)
	}
	if err != nil {
		return a.abandon(b.c, err)
	}
	return nil
}

// birth is a container that is being created.
type birth struct {
	a     *app
	f     *createFlags
	c     *container
	spec  *specs.Spec
	req   *runtime.Container
	l     *runtime.Launcher
	hooks specs.Hooks
	p     *runtime.Process
}

// readBundle reads a bundle's configuration, which it returns as it stands there
// too.
func readBundle(dir string) ([]byte, *specs.Spec, error) {
	raw, err := sys.ReadFile(filepath.Join(dir, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		if !exists(dir) {
			return nil, nil, errdefs.NotFoundf("bundle %s: no such directory", dir)
		}
		return nil, nil, errdefs.NotFoundf("JSON specification file config.json not found")
	}
	if err != nil {
		return nil, nil, err
	}
	s, err := parseSpec(raw)
	return raw, s, err
}

// prepare reads the bundle and reserves the container's id; what fails later is
// to be passed to abandon.
func (a *app) prepare(f *createFlags, id string) (_ *birth, err error) {
	if err := validID(id); err != nil {
		return nil, err
	}
	raw, s, err := readBundle(f.bundle)
	if err != nil {
		return nil, err
	}
	if entered() {
		insideAlready(s)
	}
	if err := a.checkProcess(s.Process); err != nil {
		return nil, err
	}
	a.labels(s.Process)
	a.mountLabel(s.Linux)
	root := s.Root.Path
	if !filepath.IsAbs(root) {
		root = filepath.Join(f.bundle, root)
	}
	c := &container{
		State:   specs.State{ID: id, Bundle: f.bundle, Annotations: s.Annotations},
		Resctrl: resctrl.Own(id, s.Linux.IntelRdt), Rootfs: root, NoProcess: s.Process == nil, Hooks: s.Hooks, Hooked: s.Hooks != nil,
	}
	if entered() && !a.systemd && s.Linux.CgroupsPath == "" {
		err = withoutGroup(s.Linux.Resources)
	} else {
		err = a.setGroup(c, s.Linux.CgroupsPath)
	}
	if err != nil {
		return nil, err
	}
	c.OwnRoot, c.OwnPidNS = true, false
	for _, n := range s.Linux.Namespaces {
		switch n.Type {
		case specs.MountNamespace:
			c.OwnRoot = n.Path != ""
		case specs.PIDNamespace:
			c.OwnPidNS = n.Path == ""
		}
	}
	b := &birth{a: a, f: f, c: c, spec: s}
	if s.Hooks != nil {
		b.hooks = *s.Hooks
	}
	if !f.atOnce || !b.atOnce() {
		if err := runtime.Shield(); err != nil {
			return nil, err
		}
	}
	b.req = request(c, s, f)
	state := c.State
	state.Version, state.Status = specs.Version, specs.StateCreating
	compile, err := filterLate(b.req, state)
	if err != nil {
		return nil, err
	}
	if b.l, err = runtime.NewLauncher(runtime.Options{Threads: 1, Logger: a.log, Once: true, Ahead: s, Beside: compile}); err != nil {
		return nil, err
	}
	if err := a.reserve(c, raw); err != nil {
		return nil, errors.Join(err, b.l.Close())
	}
	return b, nil
}

func (b *birth) close() {
	if b.p != nil {
		sys.CloseAll(b.p.Pidfd, b.p.Console)
	}
	if err := b.l.Close(); err != nil {
		b.a.log.Warn("cannot close the launcher", "error", err)
	}
}

// create makes a container that waits for start.
func (b *birth) create(ctx context.Context) error {
	if err := unix.Mkfifo(b.c.fifo(), 0o600); err != nil {
		return sys.Error("mkfifo", b.c.fifo(), err)
	}
	// Open for writing too, so that the container's read waits for start even
	// when nobody else has it open.
	fifo, err := unix.Open(b.c.fifo(), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return sys.Error("open", b.c.fifo(), err)
	}
	defer sys.CloseAll(fifo)
	if b.early() {
		b.req.Prepared = func(p *runtime.Process) error { return b.prepared(ctx, p) }
	}
	p, err := b.scoped(ctx, func() (*runtime.Process, error) { return b.l.Create(ctx, b.req, fifo) })
	if err != nil {
		return err
	}
	b.p = p
	failpoint.Hit("runtime.spawned")
	if err := b.know(p, specs.StateCreated); err != nil {
		return err
	}
	if !b.early() {
		if err := moveDevices(b.spec.Linux.NetDevices, p.Pid); err != nil {
			return err
		}
	}
	return b.deliver()
}

// atOnce reports whether a container that is run need not wait between creation
// and start, and whether none of its processes but the new one can see this
// program before it executes the container's: a new pid namespace is empty. It
// needs no runtime.Shield then, which costs as much as starting a program does.
func (b *birth) atOnce() bool {
	return b.c.OwnPidNS && !b.early() && len(b.hooks.StartContainer) == 0 && len(b.spec.Linux.NetDevices) == 0
}

// early reports whether hooks run during the creation.
func (b *birth) early() bool {
	//lint:ignore SA1019 it is what most hooks still use
	return len(b.hooks.Prestart)+len(b.hooks.CreateRuntime)+len(b.hooks.CreateContainer) > 0
}

// prepared runs the hooks of the creation.
func (b *birth) prepared(ctx context.Context, p *runtime.Process) error {
	if err := b.know(p, specs.StateCreating); err != nil {
		return err
	}
	if err := moveDevices(b.spec.Linux.NetDevices, p.Pid); err != nil {
		return err
	}
	//lint:ignore SA1019 it is what most hooks still use
	if err := b.c.hooks(ctx, "prestart", b.hooks.Prestart); err != nil {
		return err
	}
	if err := b.c.hooks(ctx, "createRuntime", b.hooks.CreateRuntime); err != nil {
		return err
	}
	c := *b.c
	c.OwnRoot = false // not yet: the hooks' paths are the runtime's
	return c.inside(ctx, b.l, "createContainer", b.hooks.CreateContainer, p.Pidfd, p.Cgroup)
}

// know writes down which process it is.
func (b *birth) know(p *runtime.Process, status specs.ContainerState) (err error) {
	b.c.Pid, b.c.Status, b.c.open = p.Pid, status, p.Cgroup
	if b.c.StartTime, err = startTime(p.Pid); err != nil {
		return err
	}
	return b.c.save()
}

// deliver hands over what the caller has asked for.
func (b *birth) deliver() error {
	if b.f.consoleSocket != "" {
		if err := sendFile(b.f.consoleSocket, "/dev/ptmx", b.p.Console); err != nil {
			return err
		}
	}
	if b.f.pidfdSocket != "" {
		if err := sendFile(b.f.pidfdSocket, "pidfd", b.p.Pidfd); err != nil {
			return err
		}
	}
	err := writePid(b.f.pidFile, b.p.Pid)
	failpoint.Hit("runtime.created")
	return err
}

// abandon takes back what was made of a container whose creation failed:
// runtime.md, "Lifecycle" 3 to 5, continue at 12.
func (a *app) abandon(c *container, err error) error {
	ctx, cancel := cleanUp()
	defer cancel()
	return errors.Join(err, a.remove(ctx, c))
}

// writePid writes a file that readers see whole or not at all.
func writePid(file string, pid int) error {
	if file == "" {
		return nil
	}
	tmp := filepath.Join(filepath.Dir(file), "."+filepath.Base(file))
	if err := os.WriteFile(tmp, []byte(strconv.Itoa(pid)), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}

// sendFile hands a descriptor over as runc does: docs/terminals.md of runc.
func sendFile(socket, name string, fd int) error {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return sys.Error("socket", socket, err)
	}
	defer sys.CloseAll(s)
	if err := unix.Connect(s, &unix.SockaddrUnix{Name: socket}); err != nil {
		return sys.Error("connect", socket, err)
	}
	return sys.Error("sendmsg", socket, unix.Sendmsg(s, []byte(name), unix.UnixRights(fd), nil, 0))
}

// killed ends the container's first process after a failed hook.
func (c *container) killed(err error, fd int, g *cgroup.Group) error {
	ctx, cancel := cleanUp()
	defer cancel()
	if g != nil {
		return errors.Join(err, g.Kill(ctx))
	}
	kerr := pidfd.Signal(fd, unix.SIGKILL)
	if errors.Is(kerr, unix.ESRCH) {
		kerr = nil
	}
	return errors.Join(err, kerr)
}
