package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/sys"
	"lade/internal/runtime"
)

// Source: OCI runtime-spec, config.md, "POSIX-platform Hooks".

// checkHooks refuses hooks that can never run.
func checkHooks(h *specs.Hooks) error {
	if h == nil {
		return nil
	}
	//lint:ignore SA1019 it is what most hooks still use
	prestart := h.Prestart
	for _, list := range [][]specs.Hook{prestart, h.CreateRuntime, h.CreateContainer, h.StartContainer, h.Poststart, h.Poststop} {
		for _, h := range list {
			if !filepath.IsAbs(h.Path) {
				return errdefs.Invalidf("the path of a hook must be absolute: %q", h.Path)
			}
			if h.Timeout != nil && *h.Timeout <= 0 {
				return errdefs.Invalidf("the timeout of a hook must be greater than zero: %d", *h.Timeout)
			}
		}
	}
	return nil
}

// hookIO are the files of a hook. Files, not pipes: a hook that leaves a child
// behind, or does not read, holds nobody up.
type hookIO struct{ in, out *os.File }

func newHookIO(state specs.State) (_ *hookIO, err error) {
	b, err := json.Marshal(state)
	if err != nil {
		return nil, err
	}
	io := &hookIO{}
	defer func() {
		if err != nil {
			io.close()
		}
	}()
	if io.in, err = memory("hook input"); err != nil {
		return nil, err
	}
	if io.out, err = memory("hook output"); err != nil {
		return nil, err
	}
	if _, err = io.in.Write(b); err != nil {
		return nil, err
	}
	_, err = io.in.Seek(0, 0)
	return io, err
}

func memory(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, sys.Error("memfd_create", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (io *hookIO) close() {
	for _, f := range []*os.File{io.in, io.out} {
		if f != nil {
			f.Close()
		}
	}
}

// failed describes how a hook failed, in runc's words.
func (io *hookIO) failed(name string, i int, err error) error {
	var buf [4096]byte
	n, _ := io.out.ReadAt(buf[:], 0) // what was written is only for the message
	return fmt.Errorf("error running %s hook #%d: %w, output: %s", name, i, err, bytes.TrimSpace(buf[:n]))
}

func withTimeout(ctx context.Context, h *specs.Hook) (context.Context, context.CancelFunc) {
	if h.Timeout == nil {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Duration(*h.Timeout)*time.Second)
}

// hooks runs hooks in the runtime's namespaces, with the container's state as
// their input; the first that fails ends the series.
func (c *container) hooks(ctx context.Context, name string, list []specs.Hook) error {
	for i := range list {
		io, err := newHookIO(c.State)
		if err != nil {
			return err
		}
		err = outer(ctx, &list[i], io, c.Bundle)
		if err != nil {
			err = io.failed(name, i, err)
		}
		io.close()
		if err != nil {
			return err
		}
	}
	return nil
}

func outer(ctx context.Context, h *specs.Hook, io *hookIO, dir string) error {
	ctx, cancel := withTimeout(ctx, h)
	defer cancel()
	cmd := exec.CommandContext(ctx, h.Path)
	cmd.Args, cmd.Env, cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = h.Args, h.Env, dir, io.in, io.out, io.out
	if len(cmd.Args) == 0 {
		cmd.Args = []string{h.Path}
	}
	if cmd.Env == nil {
		cmd.Env = []string{} // nil would be ours
	}
	// With what it has started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	err := cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("hook ran past specified timeout of %s: %w", timeout(h), ctx.Err())
	}
	return err
}

func timeout(h *specs.Hook) time.Duration {
	if h.Timeout == nil {
		return 0
	}
	return time.Duration(*h.Timeout) * time.Second
}

// inside runs hooks in the container's namespaces. They see its process as it
// is numbered there.
func (c *container) inside(ctx context.Context, l *runtime.Launcher, name string, list []specs.Hook, fd int, g *cgroup.Group) error {
	if len(list) == 0 {
		return nil
	}
	state := c.State
	var err error
	if state.Pid, err = innerPid(c.Pid); err != nil {
		return err
	}
	for i := range list {
		io, err := newHookIO(state)
		if err != nil {
			return err
		}
		err = c.inner(ctx, l, &list[i], io, fd, g)
		if err != nil {
			err = io.failed(name, i, err)
		}
		io.close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *container) inner(ctx context.Context, l *runtime.Launcher, h *specs.Hook, io *hookIO, fd int, g *cgroup.Group) error {
	ctx, cancel := withTimeout(ctx, h)
	defer cancel()
	args := h.Args
	if len(args) == 0 {
		args = []string{h.Path}
	}
	p, err := l.Exec(ctx, &runtime.Exec{
		Pid: c.Pid, Pidfd: fd, Cgroup: g, SpecUser: true, OwnRoot: c.OwnRoot,
		Process: &specs.Process{Args: args, Env: h.Env, Cwd: "/"}, Path: h.Path,
		Stdin: int(io.in.Fd()), Stdout: int(io.out.Fd()), Stderr: int(io.out.Fd()),
	})
	if err != nil {
		return err
	}
	defer sys.CloseAll(p.Pidfd)
	if err := pidfd.Ended(ctx, p.Pidfd); err != nil {
		err = fmt.Errorf("hook ran past specified timeout of %s: %w", timeout(h), err)
		_ = pidfd.Signal(p.Pidfd, unix.SIGKILL) // it may have ended meanwhile
		_, _, _ = pidfd.Wait(p.Pidfd)
		return err
	}
	code, _, err := pidfd.Wait(p.Pidfd)
	if err == nil && code != 0 {
		err = fmt.Errorf("exit status %d", code)
	}
	return err
}

// innerPid returns the number of a process in its own pid namespace.
func innerPid(pid int) (int, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(v)
			return strconv.Atoi(f[len(f)-1])
		}
	}
	return 0, errdefs.Internalf("/proc/%d/status has no NSpid", pid)
}
