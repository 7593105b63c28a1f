package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/sys"
	"lade/internal/runtime"
)

// createFlags are those of create and run.
type createFlags struct {
	bundle, consoleSocket, pidFile string
	detach, keep                   bool
}

func parseCreate(name string, args []string) (createFlags, string, error) {
	var c createFlags
	f := newFlags(name)
	for _, n := range []string{"bundle", "b"} {
		f.StringVar(&c.bundle, n, ".", "directory of the bundle")
	}
	f.StringVar(&c.consoleSocket, "console-socket", "", "unix socket that receives the terminal")
	f.StringVar(&c.pidFile, "pid-file", "", "file for the process id")
	f.Bool("no-pivot", false, "accepted: pivot_root is not used")
	f.Bool("no-new-keyring", false, "accepted")
	f.Int("preserve-fds", 0, "accepted if 0")
	if name == "run" {
		for _, n := range []string{"detach", "d"} {
			f.BoolVar(&c.detach, n, false, "do not wait for the end")
		}
		f.BoolVar(&c.keep, "keep", false, "do not delete after the end")
	}
	id, err := one(f, args)
	if err != nil {
		return c, "", err
	}
	c.bundle, err = filepath.Abs(c.bundle)
	return c, id, err
}

func loadSpec(bundle string) (*specs.Spec, error) {
	b, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errdefs.NotFoundf("JSON specification file config.json not found")
	}
	if err != nil {
		return nil, err
	}
	var s specs.Spec
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, errdefs.Invalidf("config.json: %w", err)
	}
	if s.Root == nil || s.Process == nil || s.Linux == nil {
		return nil, errdefs.Invalidf("config.json needs root, process and linux")
	}
	return &s, nil
}

// request turns a bundle into what the launcher wants.
func (c *container) request(bundle string, s *specs.Spec) (_ *runtime.Container, err error) {
	root := s.Root.Path
	if !filepath.IsAbs(root) {
		root = filepath.Join(bundle, root)
	}
	for i, m := range s.Mounts {
		if m.Type == "bind" && !filepath.IsAbs(m.Source) {
			s.Mounts[i].Source = filepath.Join(bundle, m.Source)
		}
	}
	if s.Linux.CgroupsPath, err = c.groupPath(s.Linux.CgroupsPath); err != nil {
		return nil, err
	}
	r := &runtime.Container{ID: c.ID, Spec: s, Rootfs: runtime.Rootfs{Path: root}, SpecUser: true, NetNS: -1, Stdin: 0, Stdout: 1, Stderr: 2}
	state := specs.State{Version: specs.Version, ID: c.ID, Status: specs.StateCreating, Bundle: bundle, Annotations: s.Annotations}
	if r.Filter, r.FilterFlags, r.Listener, err = filter(s.Linux.Seccomp, state); err != nil {
		return nil, err
	}
	if h := s.Hooks; h != nil && len(h.CreateContainer)+len(h.StartContainer) > 0 {
		return nil, errdefs.NotImplementedf("hooks createContainer and startContainer")
	}
	return r, nil
}

// groupPath returns the control group of a container. Without --systemd-cgroup,
// systemd's form "slice:prefix:name" is the path that systemd would make.
func (c *container) groupPath(path string) (string, error) {
	if path == "" {
		return "/" + c.ID, nil
	}
	if s, ok := cgroup.ParseScope(path); ok && c.Scope == "" {
		return s.Path()
	}
	return path, nil
}

func create(ctx context.Context, a *app, args []string) error {
	f, id, err := parseCreate("create", args)
	if err != nil {
		return err
	}
	_, p, err := a.create(ctx, f, id)
	if err != nil {
		return err
	}
	sys.CloseAll(p.Pidfd, p.Console)
	return nil
}

// create makes a container that waits for start.
func (a *app) create(ctx context.Context, f createFlags, id string) (_ *container, _ *runtime.Process, err error) {
	spec, err := loadSpec(f.bundle)
	if err != nil {
		return nil, nil, err
	}
	if spec.Process.Terminal != (f.consoleSocket != "") {
		return nil, nil, errdefs.Invalidf("a console socket is needed for a terminal, and only then")
	}
	c, err := a.reserve(id, f.bundle, spec)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			ctx, cancel := cleanUp()
			defer cancel()
			err = errors.Join(err, c.remove(ctx))
		}
	}()
	scopeEnd, err := a.beginScope(ctx, c, spec)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, scopeEnd(err)) }()
	req, err := c.request(f.bundle, spec)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.Mkfifo(c.fifo(), 0o600); err != nil {
		return nil, nil, sys.Error("mkfifo", c.fifo(), err)
	}
	// Open for writing too, so that the container's read waits for start even
	// when nobody else has it open.
	fifo, err := unix.Open(c.fifo(), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, sys.Error("open", c.fifo(), err)
	}
	defer sys.CloseAll(fifo)
	l, err := runtime.NewLauncher(runtime.Options{Threads: 1, Logger: a.log})
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	p, err := l.Create(ctx, req, fifo)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, pidfd.Signal(p.Pidfd, unix.SIGKILL))
			sys.CloseAll(p.Pidfd, p.Console)
		}
	}()
	c.Pid, c.Rootfs = p.Pid, req.Rootfs.Path
	if p.Cgroup != nil {
		c.Cgroup = p.Cgroup.Path()
	}
	if c.StartTime, _, err = startTime(p.Pid); err != nil {
		return nil, nil, err
	}
	c.Status = specs.StateCreated
	if spec.Hooks != nil {
		//lint:ignore SA1019 it is what most hooks still use
		if err := c.hooks(ctx, spec.Hooks.Prestart); err != nil {
			return nil, nil, err
		}
		if err := c.hooks(ctx, spec.Hooks.CreateRuntime); err != nil {
			return nil, nil, err
		}
	}
	if f.consoleSocket != "" {
		if err := sendConsole(f.consoleSocket, p.Console); err != nil {
			return nil, nil, err
		}
	}
	if err := c.save(); err != nil {
		return nil, nil, err
	}
	return c, p, writePid(f.pidFile, p.Pid)
}

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

// sendConsole hands the terminal's master side over, as runc does:
// docs/terminals.md of runc.
func sendConsole(socket string, master int) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return sys.Error("socket", socket, err)
	}
	defer sys.CloseAll(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		return sys.Error("connect", socket, err)
	}
	return sys.Error("sendmsg", socket, unix.Sendmsg(fd, []byte("/dev/ptmx"), unix.UnixRights(master), nil, 0))
}

func start(ctx context.Context, a *app, args []string) error {
	id, err := one(newFlags("start"), args)
	if err != nil {
		return err
	}
	c, err := a.load(id)
	if err != nil {
		return err
	}
	return c.start(ctx)
}

func (c *container) start(ctx context.Context) error {
	switch c.Status {
	case specs.StateCreated:
	case specs.StateStopped:
		return errdefs.Conflictf("cannot start a container that has stopped")
	default:
		return errdefs.Conflictf("cannot start an already running container")
	}
	spec, err := loadSpec(c.Bundle)
	if err != nil {
		return err
	}
	// Without a reader the container is gone, or somebody else has started it.
	f, err := os.OpenFile(c.fifo(), os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return errdefs.Conflictf("cannot start: %w", err)
	}
	defer f.Close()
	if err := os.Remove(c.fifo()); err != nil {
		return errdefs.Conflictf("cannot start an already running container: %w", err)
	}
	if _, err := f.Write([]byte{0}); err != nil {
		return err
	}
	c.Status = specs.StateRunning
	if spec.Hooks != nil {
		return c.hooks(ctx, spec.Hooks.Poststart)
	}
	return nil
}

func runVerb(ctx context.Context, a *app, args []string) error {
	f, id, err := parseCreate("run", args)
	if err != nil {
		return err
	}
	c, p, err := a.create(ctx, f, id)
	if err != nil {
		return err
	}
	defer sys.CloseAll(p.Pidfd, p.Console)
	if err := c.start(ctx); err != nil {
		return err
	}
	if f.detach {
		return nil
	}
	code, err := attend(p.Pidfd)
	if !f.keep {
		err = errors.Join(err, a.delete(c))
	}
	if err == nil && code != 0 {
		return exitCode(code)
	}
	return err
}

// attend passes signals on to a process until it ends, and returns how.
func attend(fd int) (int, error) {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	defer signal.Stop(signals)
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-done:
				return
			case s := <-signals:
				switch sig := s.(syscall.Signal); sig {
				case unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE:
				default:
					_ = pidfd.Signal(fd, sig) // it may have ended meanwhile
				}
			}
		}
	}()
	code, _, err := pidfd.Wait(fd)
	return code, err
}
