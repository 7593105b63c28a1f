package lxc

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/sys"
)

// monitorTime is how long the monitor may take to clean up after the container.
const monitorTime = 10 * time.Second

// Remove waits until LXC has cleaned up after the container, which has ended,
// and removes the bundle. It is idempotent.
func (c *Container) Remove(ctx context.Context) error {
	err := c.endMonitor()
	raw, e := os.ReadFile(c.b.Path(fileGroups))
	if e == nil {
		e = c.removeGroups(ctx, string(raw))
	} else if errors.Is(e, fs.ErrNotExist) {
		e = nil
	}
	return errors.Join(err, e, c.b.Remove())
}

// endMonitor waits for the end of lxc-start, and kills one that hangs.
func (c *Container) endMonitor() error {
	pidfd, err := c.openMonitor()
	if pidfd < 0 {
		return err
	}
	defer sys.CloseAll(pidfd)
	// A supervisor that was lost in the middle of a start has left the hook
	// waiting.
	if p, err := c.openPipes(); err == nil {
		defer p.close()
		if err := p.goOn(); err != nil {
			return err
		}
	}
	if ended(pidfd, monitorTime) {
		return nil
	}
	if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return sys.Error("pidfd_send_signal", "lxc-start", err)
	}
	ended(pidfd, monitorTime)
	return errdefs.Unavailablef("lxc-start of container %s hung and was killed", c.b.ID)
}

// openMonitor returns a pidfd of lxc-start, or -1 if it has ended.
func (c *Container) openMonitor() (int, error) {
	raw, err := os.ReadFile(c.b.Path(fileMonitor))
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil
	}
	if err != nil {
		return -1, err
	}
	pid, err := strconv.Atoi(string(raw))
	if err != nil {
		return -1, err
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return -1, nil
	}
	if err != nil {
		return -1, sys.Error("pidfd_open", string(raw), err)
	}
	// The number may be another process's by now; a zombie has no command line.
	line, err := os.ReadFile("/proc/" + string(raw) + "/cmdline")
	if err != nil || !strings.Contains(string(line), c.b.State()) {
		sys.CloseAll(pidfd)
		return -1, nil
	}
	return pidfd, nil
}

// removeGroups removes the groups that LXC made for its own processes.
func (c *Container) removeGroups(ctx context.Context, dir string) error {
	g, err := c.h.Cgroups.Open(dir)
	if errors.Is(err, errdefs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return g.Delete(ctx)
}

// discard removes what a failed start has left.
func (c *Container) discard(ctx context.Context, s *specs.Spec) error {
	g, err := c.group(s)
	if g != nil {
		err = g.Kill(ctx)
	}
	err = errors.Join(err, c.Remove(ctx))
	if g != nil {
		err = errors.Join(err, g.Delete(ctx))
	}
	return err
}
