package lxc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/pty"
	"lade/internal/linux/sys"
	"lade/internal/runtime"
	"lade/internal/runtime/bundle"
)

// Host is what all containers share.
type Host struct {
	InitPath string // of lade-init
	Features sys.Features
	Cgroups  *cgroup.Host
	// Mapped is runtime.Launcher.Mapped.
	Mapped func(context.Context, *specs.Spec, int) (*runtime.Mapped, error)
	// Exec starts additional processes.
	Exec func(ctx context.Context, e *runtime.Exec) (*runtime.Process, error)
}

// Container is a container of LXC.
type Container struct {
	h *Host
	b *bundle.Bundle
}

// New returns the container that a bundle is for; its Runtime.Path is that of
// lxc-start, beside which the other commands are.
func New(h *Host, b *bundle.Bundle) *Container {
	b.ReadOnlyTrees = true
	return &Container{h, b}
}

// Start starts the container and returns when its command was executed. On
// failure nothing is left of it.
//
// Errors: Invalid for what LXC cannot do; *runtime.StartError in LXC's words.
func (c *Container) Start(ctx context.Context, a *runtime.Container) (_ *runtime.Process, err error) {
	began := time.Now()
	defer func() {
		if err == nil {
			return
		}
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
		defer cancel()
		err = errors.Join(err, c.discard(clean, a.Spec))
	}()
	mapped, err := c.h.Mapped(ctx, a.Spec, a.UserNS)
	if err != nil {
		return nil, err
	}
	makes := func(f func() error) error { return f() }
	if mapped != nil {
		defer mapped.Close()
		mapped.Every, makes = true, mapped.As
	}
	if a.Spec.Process.Terminal {
		a = withInit(a, c.h.InitPath)
	}
	root, spec, err := c.b.Prepare(a, c.h.InitPath, c.h.Features, mapped)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	err = makes(func() (err error) {
		spec.Mounts, err = resolve(root.FD(), spec)
		return err
	})
	if err != nil {
		return nil, err
	}
	if spec.Process.Terminal {
		spec.Process = controlling(spec.Process)
	}
	if err := c.configure(spec); err != nil {
		return nil, err
	}
	prepared := time.Now()
	m, err := c.launch(root, spec, bundle.Streams{a.Stdin, a.Stdout, a.Stderr})
	if err != nil {
		return nil, err
	}
	defer sys.CloseAll(m.pidfd)
	p, err := c.await(ctx, m, spec)
	if err != nil {
		sys.CloseAll(m.console)
		return nil, err
	}
	if a.Init {
		runtime.AwaitInit(ctx, c.h.InitPath, p.Pid, p.Pidfd)
	}
	p.StartedAt = time.Now()
	p.Prepare, p.Program = prepared.Sub(began), p.StartedAt.Sub(prepared)
	return p, nil
}

// initAt is where a container with a terminal sees lade-init, in the directory that
// LXC makes anew for each.
const initAt = "/dev/.lade-init"

// withInit returns the description of a container that sees lade-init there.
func withInit(a *runtime.Container, path string) *runtime.Container {
	out, spec := *a, *a.Spec
	spec.Mounts = append(slices.Clone(spec.Mounts), specs.Mount{
		Destination: initAt, Type: "bind", Source: path, Options: []string{"bind", "ro", "nosuid", "nodev"},
	})
	out.Spec = &spec
	return &out
}

// controlling returns the process with lade-init before the command: LXC does not
// make the terminal the controlling one of the first process, without which a
// shell has no jobs and ^C no effect. It is gone once the command is executed; a
// command that is not there is its exit code (127, 126), as with --init.
func controlling(p *specs.Process) *specs.Process {
	out := *p
	out.Args = append([]string{initAt, "--tty", "--"}, p.Args...)
	return &out
}

// cleanUpTime bounds the clean-up after a failure.
const cleanUpTime = 30 * time.Second

// The bundle's files.
const (
	fileLog     = "lxc.log"
	fileSeccomp = "seccomp"
	filePid     = "pid"     // a pipe
	fileGate    = "gate"    // another one
	fileMonitor = "monitor" // lxc-start's process number
	fileGroups  = "groups"  // the path of LXC's own control groups
	fileKills   = "kills"   // what the kernel counted in the container's group
	dirMount    = "mnt"
)

// configure writes the configuration to where LXC's commands look for it.
func (c *Container) configure(s *specs.Spec) error {
	p := places{
		rootfs: c.b.Rootfs(), mount: c.b.Path(dirMount), log: c.b.Path(fileLog), pid: c.b.Path(filePid), gate: c.b.Path(fileGate), groups: s.Linux.CgroupsPath + ".lxc",
		kills: c.b.Path(fileKills),
	}
	if s.Linux.CgroupsPath != "" {
		var err error
		if p.counts, err = c.h.Cgroups.OOMFile(s.Linux.CgroupsPath); err != nil && !errors.Is(err, errdefs.Unavailable) {
			return err
		}
	}
	if s.Linux.Seccomp != nil {
		policy, err := filter(s.Linux.Seccomp)
		if err == nil {
			err = c.b.Write(fileSeccomp, policy)
		}
		if err != nil {
			return err
		}
		p.seccomp = c.b.Path(fileSeccomp)
	}
	limits, err := c.h.Cgroups.Settings(s.Linux.Resources)
	if err != nil {
		return err
	}
	text, err := translate(s, limits, p)
	if err != nil {
		return err
	}
	dir := filepath.Join(c.b.State(), c.b.ID)
	return errors.Join(
		os.MkdirAll(p.mount, 0o700), os.MkdirAll(dir, 0o700),
		os.Chmod(c.b.State(), 0o711), // LXC wants the root of a user namespace to pass
		os.WriteFile(filepath.Join(dir, "config"), text, 0o600),
		c.b.Write(fileGroups, []byte(p.groups)),
		sys.Error("mkfifo", p.pid, unix.Mkfifo(p.pid, 0o600)),
		sys.Error("mkfifo", p.gate, unix.Mkfifo(p.gate, 0o600)),
	)
}

// monitor is a running lxc-start.
type monitor struct {
	pidfd   int
	console int // the master side of its terminal, or -1
	pipes   pipes
}

// pipes connect us with the hook: it writes the number of the container's
// process, which is alive until it has read a line.
type pipes struct{ pid, gate int }

func (p *pipes) close() { sys.CloseAll(p.pid, p.gate) }

// openPipes opens both for reading and writing, so that neither has an end and
// nobody waits for another to open them.
func (c *Container) openPipes() (p pipes, err error) {
	const how = unix.O_RDWR | unix.O_CLOEXEC | unix.O_NONBLOCK
	p = pipes{-1, -1}
	if p.pid, err = unix.Open(c.b.Path(filePid), how, 0); err != nil {
		return p, sys.Error("open", c.b.Path(filePid), err)
	}
	p.gate, err = unix.Open(c.b.Path(fileGate), how, 0)
	return p, sys.Error("open", c.b.Path(fileGate), err)
}

// goOn lets the hook end.
func (p *pipes) goOn() error {
	_, err := unix.Write(p.gate, []byte("\n"))
	return sys.Error("write", fileGate, err)
}

// launch starts the monitor.
func (c *Container) launch(root *bundle.Root, s *specs.Spec, streams bundle.Streams) (_ *monitor, err error) {
	m := &monitor{-1, -1, pipes{-1, -1}}
	defer func() {
		if err != nil {
			sys.CloseAll(m.pidfd, m.console)
			m.pipes.close()
		}
	}()
	if m.pipes, err = c.openPipes(); err != nil {
		return nil, err
	}
	if s.Process.Terminal {
		slave := -1
		if m.console, slave, err = terminal(s.Process.ConsoleSize); err != nil {
			return nil, err
		}
		defer sys.CloseAll(slave)
		streams = bundle.Streams{slave, slave, slave}
	}
	args := append([]string{"-F", "-q", "-n", c.b.ID, "-P", c.b.State(), "--"}, s.Process.Args...)
	cmd, done, err := c.b.Command(context.Background(), streams, c.b.Runtime.Path, args...)
	if err != nil {
		return nil, err
	}
	defer done()
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &m.pidfd, Setsid: true, Setctty: s.Process.Terminal}
	if err := c.b.Attached(root, cmd.Start); err != nil {
		return nil, &runtime.StartError{Code: runtime.Failed, Op: "runtime " + c.b.Runtime.Name + ": " + err.Error()}
	}
	pid := cmd.Process.Pid
	// Nobody waits for it here: it is reaped as what containers leave behind.
	return m, errors.Join(cmd.Process.Release(), c.b.Write(fileMonitor, []byte(strconv.Itoa(pid))))
}

// terminal makes a terminal of the host's.
func terminal(size *specs.Box) (master, slave int, err error) {
	dir, err := unix.Open("/dev/pts", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, -1, sys.Error("open", "/dev/pts", err)
	}
	defer sys.CloseAll(dir)
	if master, slave, err = pty.Open(dir); err != nil {
		return -1, -1, err
	}
	// The monitor copies what LXC's console puts out, which has done with lines what
	// it is to do, and sets this one to do it again.
	if err = pty.KeepLines(slave); err == nil && size != nil {
		err = pty.Resize(master, uint16(size.Height), uint16(size.Width))
	}
	if err != nil {
		sys.CloseAll(master, slave)
		return -1, -1, err
	}
	return master, slave, nil
}

// await waits until the container runs.
func (c *Container) await(ctx context.Context, m *monitor, s *specs.Spec) (_ *runtime.Process, err error) {
	defer m.pipes.close()
	pid, err := m.read()
	if err != nil {
		return nil, c.failure()
	}
	p := &runtime.Process{Pid: pid, Pidfd: -1, Console: m.console, Adopted: true}
	failpoint.Hit("foreign.created")
	if p.Pidfd, err = unix.PidfdOpen(pid, 0); err == nil {
		err = m.pipes.goOn()
	}
	if err != nil {
		sys.CloseAll(p.Pidfd)
		return nil, c.failure()
	}
	// It ends with an error when the monitor has ended already.
	_ = c.b.Run(ctx, bundle.Quiet, nil, filepath.Join(filepath.Dir(c.b.Runtime.Path), "lxc-wait"),
		"-q", "-n", c.b.ID, "-P", c.b.State(), "-s", "RUNNING|STOPPED", "-t", "60")
	if !c.executed(pid) {
		// It has run and ended, or the log says why it has not.
		ended(p.Pidfd, monitorTime)
		ended(m.pidfd, monitorTime)
		if err := c.failed(); err != nil {
			sys.CloseAll(p.Pidfd)
			return nil, err
		}
	}
	if p.Cgroup, err = c.group(s); err == nil {
		err = c.b.SetStarted()
	}
	if err != nil {
		_ = unix.PidfdSendSignal(p.Pidfd, unix.SIGKILL, nil, 0) // ESRCH: it has ended
		sys.CloseAll(p.Pidfd)
		return nil, err
	}
	return p, nil
}

// executed reports whether a process of the container runs another program than
// LXC's.
func (c *Container) executed(pid int) bool {
	own, err := os.Stat(c.b.Runtime.Path)
	if err != nil {
		return false
	}
	its, err := os.Stat("/proc/" + strconv.Itoa(pid) + "/exe")
	return err == nil && !os.SameFile(own, its)
}

// read returns what the hook writes. Errors: ESRCH if the monitor ends before.
func (m *monitor) read() (int, error) {
	for {
		poll := []unix.PollFd{{Fd: int32(m.pipes.pid), Events: unix.POLLIN}, {Fd: int32(m.pidfd), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, int(bundle.Limit.Milliseconds())); err == unix.EINTR {
			continue
		} else if err != nil {
			return 0, sys.Error("poll", "", err)
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			return 0, unix.ESRCH
		}
		buf := make([]byte, 32)
		n, err := unix.Read(m.pipes.pid, buf)
		if err != nil {
			return 0, sys.Error("read", filePid, err)
		}
		return strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	}
}

// ended reports whether a process has ended, or does within a time.
func ended(pidfd int, within time.Duration) bool {
	for end := time.Now().Add(within); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(max(time.Until(end), 0).Milliseconds()))
		if err != unix.EINTR {
			return n > 0
		}
	}
}

// Exec starts an additional process.
func (c *Container) Exec(ctx context.Context, e *runtime.Exec) (*runtime.Process, error) {
	return c.h.Exec(ctx, e)
}

// Started reports whether the container's command was started.
func (c *Container) Started() bool { return c.b.Started() }

// OOMKills returns how many processes of the container the kernel killed for
// memory, once LXC has removed the control group. Errors: fs.ErrNotExist if it
// has not been that far.
func (c *Container) OOMKills() (uint64, error) {
	raw, err := os.ReadFile(c.b.Path(fileKills))
	return cgroup.ReadOOMKills(string(raw)), err
}

// group opens the container's control group.
func (c *Container) group(s *specs.Spec) (*cgroup.Group, error) {
	if s.Linux.CgroupsPath == "" {
		return nil, nil
	}
	g, err := c.h.Cgroups.Open(s.Linux.CgroupsPath)
	if errors.Is(err, errdefs.NotFound) { // it has ended
		return nil, nil
	}
	return g, err
}
