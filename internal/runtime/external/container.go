package external

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/pty"
	"lade/internal/linux/seccomp"
	"lade/internal/linux/sys"
	"lade/internal/runtime"
	"lade/internal/runtime/bundle"
)

// Host is what all containers share.
type Host struct {
	InitPath string // of lade-init
	Features sys.Features
	// Mapped is runtime.Launcher.Mapped.
	Mapped func(context.Context, *specs.Spec, int) (*runtime.Mapped, error)
	// Cgroup opens a control group by its path in a specification.
	Cgroup func(path string) (*cgroup.Group, error)
}

// Container is a container of another runtime.
type Container struct {
	h       *Host
	b       *bundle.Bundle
	options []string // of the runtime, before the verb
}

// New returns the container that a bundle is for.
func New(h *Host, b *bundle.Bundle) *Container { return &Container{h: h, b: b} }

// Start creates and starts the container and returns when the runtime says that
// its command runs. On failure nothing is left of it.
//
// Errors: *runtime.StartError in the runtime's words.
func (c *Container) Start(ctx context.Context, a *runtime.Container) (_ *runtime.Process, err error) {
	began := time.Now()
	p := &runtime.Process{Pidfd: -1, Console: -1}
	defer func() {
		if err == nil {
			return
		}
		sys.CloseAll(p.Pidfd, p.Console)
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
		defer cancel()
		err = errors.Join(err, c.discard(clean, a.Spec))
	}()
	// Not every runtime looks: crun would leave the call to nobody.
	if profile := a.Spec.Linux.Seccomp; profile != nil {
		if err := seccomp.CheckListener(profile); err != nil {
			return nil, err
		}
	}
	mapped, err := c.h.Mapped(ctx, a.Spec, a.UserNS)
	if err != nil {
		return nil, err
	}
	if mapped != nil {
		defer mapped.Close()
	}
	root, spec, err := c.b.Prepare(a, c.h.InitPath, c.h.Features, mapped)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	spec.Version = oldest
	nameDomain(spec)
	readOnlyFiles(spec)
	if err := c.b.WriteJSON("config.json", spec); err != nil {
		return nil, err
	}
	args := []string{"create", "--bundle", c.b.Dir}
	if _, scope := cgroup.ParseScope(spec.Linux.CgroupsPath); scope {
		c.options = []string{"--systemd-cgroup"} // a unit, which it makes, with limits as its properties
	}
	made, err := c.spawn(ctx, args, spec.Process, bundle.Streams{a.Stdin, a.Stdout, a.Stderr}, func(run func() error) error {
		return c.b.Attached(root, run)
	})
	if err != nil {
		return nil, err
	}
	p = made
	failpoint.Hit("foreign.created")
	if p.Cgroup, err = c.group(spec); err != nil {
		return nil, err
	}
	if a.Delegate && mapped != nil && p.Cgroup != nil {
		// The group is the runtime's, who made it as the host's root. The limits stay
		// so; groups below it are the container's to make.
		uid, gid, _ := mapped.Lines().Host(0, 0)
		if err = p.Cgroup.Give(int(uid), int(gid)); err != nil {
			return nil, err
		}
	}
	created := time.Now()
	if err := c.run(ctx, bundle.Quiet, nil, "start", c.b.ID); err != nil {
		return nil, err
	}
	if err := c.b.SetStarted(); err != nil {
		return nil, err
	}
	if a.Init {
		runtime.AwaitInit(ctx, c.h.InitPath, p.Pid, p.Pidfd)
	}
	p.StartedAt = time.Now()
	p.Prepare, p.Program = created.Sub(began), p.StartedAt.Sub(created)
	return p, nil
}

// oldest is the version of the specification that every runtime knows; what is
// younger in it is left alone by those that do not know it.
const oldest = "1.0.2"

// nameDomain says the domain name in a second way, for runtimes of the time when
// the specification had none (runc before 1.2).
func nameDomain(s *specs.Spec) {
	if s.Domainname == "" {
		return
	}
	s.Linux.Sysctl = maps.Clone(s.Linux.Sysctl)
	if s.Linux.Sysctl == nil {
		s.Linux.Sysctl = map[string]string{}
	}
	s.Linux.Sysctl["kernel.domainname"] = s.Domainname
}

// readOnlyFiles asks for files that are read-only, not for them and everything
// below, which is the same, and which crun 1.8 takes for directories alone.
func readOnlyFiles(s *specs.Spec) {
	s.Mounts = slices.Clone(s.Mounts)
	for i := range s.Mounts {
		m := &s.Mounts[i]
		at := slices.Index(m.Options, "rro")
		if at < 0 {
			continue
		}
		if fi, err := os.Stat(m.Source); err == nil && !fi.IsDir() {
			m.Options = slices.Clone(m.Options)
			m.Options[at] = "ro"
		}
	}
}

// cleanUpTime bounds the clean-up after a failure.
const cleanUpTime = 30 * time.Second

// group opens the container's control group, if the runtime has made it.
func (c *Container) group(s *specs.Spec) (*cgroup.Group, error) {
	if s.Linux == nil || s.Linux.CgroupsPath == "" {
		return nil, nil
	}
	g, err := c.h.Cgroup(s.Linux.CgroupsPath)
	if errors.Is(err, errdefs.NotFound) {
		return nil, nil
	}
	return g, err
}

// discard removes what a failed start has left.
func (c *Container) discard(ctx context.Context, s *specs.Spec) error {
	err := c.Remove(ctx)
	g, e := c.group(s)
	if g != nil {
		e = errors.Join(g.Kill(ctx), g.Delete(ctx))
	}
	return errors.Join(err, e)
}

// Exec starts an additional process; see runtime.Launcher.
func (c *Container) Exec(ctx context.Context, e *runtime.Exec) (_ *runtime.Process, err error) {
	began := time.Now()
	root, err := runtime.OpenRoot(e.Pid, e.Pidfd)
	if err != nil {
		return nil, errdefs.Conflictf("cannot exec in a stopped container: %w", err)
	}
	process, err := runtime.Identify(root, e.User, e.GroupAdd, e.Process)
	sys.CloseAll(root)
	if err != nil {
		return nil, err
	}
	streams := bundle.Streams{e.Stdin, e.Stdout, e.Stderr}
	if err := c.b.GiveStreams(streams, process.User); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(c.b.Dir, "process-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	err = errors.Join(json.NewEncoder(file).Encode(process), file.Close())
	if err != nil {
		return nil, err
	}
	args := []string{"exec", "--detach", "--process", file.Name()}
	p, err := c.spawn(ctx, args, process, streams, func(run func() error) error { return run() })
	if err != nil {
		return nil, err
	}
	p.Cgroup, p.StartedAt = e.Cgroup, time.Now()
	p.Program = p.StartedAt.Sub(began)
	return p, nil
}

// spawn calls a verb, around which where has a say, that makes a process and
// hands it to us.
func (c *Container) spawn(ctx context.Context, args []string, process *specs.Process, streams bundle.Streams, where func(func() error) error) (*runtime.Process, error) {
	dir, err := os.MkdirTemp(c.b.Dir, "new-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	pidFile := dir + "/pid"
	args = append(args, "--pid-file", pidFile)
	p := &runtime.Process{Pidfd: -1, Console: -1}
	var console *bundle.Console
	if process.Terminal {
		if console, err = bundle.Listen(dir); err != nil {
			return nil, err
		}
		defer console.Close()
		args, streams = append(args, "--console-socket", console.Path()), bundle.Quiet
	}
	err = where(func() error { return c.run(ctx, streams, nil, append(args, c.b.ID)...) })
	if err != nil {
		return nil, err
	}
	if p.Pid, p.Pidfd, err = open(pidFile); err != nil {
		return nil, err
	}
	if console != nil {
		p.Console, err = console.Receive()
		if size := process.ConsoleSize; err == nil && size != nil {
			err = pty.Resize(p.Console, uint16(size.Height), uint16(size.Width))
		}
	}
	if err != nil {
		_ = unix.PidfdSendSignal(p.Pidfd, unix.SIGKILL, nil, 0) // ESRCH: it has ended
		sys.CloseAll(p.Pidfd, p.Console)
		return nil, err
	}
	return p, nil
}

// open opens the process whose number is in a file.
func open(file string) (pid, pidfd int, err error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, -1, err
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(string(raw))); err != nil {
		return 0, -1, errdefs.Internalf("the runtime's pid file: %w", err)
	}
	pidfd, err = unix.PidfdOpen(pid, 0)
	return pid, pidfd, sys.Error("pidfd_open", strconv.Itoa(pid), err)
}

// Signal sends a signal to the container's first process, which the runtime
// knows better than we do: under gVisor it has no process of the host's.
func (c *Container) Signal(ctx context.Context, sig unix.Signal) error {
	return c.run(ctx, bundle.Quiet, nil, "kill", c.b.ID, strconv.Itoa(int(sig)))
}

// Freeze stops every process of the container.
func (c *Container) Freeze(ctx context.Context) error {
	return c.run(ctx, bundle.Quiet, nil, "pause", c.b.ID)
}

// Thaw continues them.
func (c *Container) Thaw(ctx context.Context) error {
	return c.run(ctx, bundle.Quiet, nil, "resume", c.b.ID)
}

// Update changes the limits that r names.
func (c *Container) Update(ctx context.Context, r *specs.LinuxResources) error {
	f, err := os.CreateTemp(c.b.Dir, "resources-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := json.NewEncoder(f).Encode(r); err != nil {
		return err
	}
	if _, err := f.Seek(0, 0); err != nil {
		return err
	}
	return c.run(ctx, bundle.Quiet, f, "update", "--resources", "-", c.b.ID)
}

// Remove makes the runtime forget the container, whose processes it kills, and
// removes the bundle. It is idempotent. The bundle is removed even when the
// runtime fails: it may be gone.
func (c *Container) Remove(ctx context.Context) error {
	return errors.Join(c.run(ctx, bundle.Quiet, nil, "delete", "--force", c.b.ID), c.b.Remove())
}

// Started reports whether the container's command was started.
func (c *Container) Started() bool { return c.b.Started() }
