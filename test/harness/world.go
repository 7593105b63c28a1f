package harness

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"lade/internal/network"
)

// world is what an engine could leave on the machine, as lines of text.
type world []string

// minus returns what w has more than the world before.
func (w world) minus(before world) []string {
	var more []string
	for _, line := range w {
		if !slices.Contains(before, line) {
			more = append(more, line)
		}
	}
	return more
}

// look lists mounts, links, tables, control groups, bundles and processes that belong
// to the engine; others may come and go meanwhile.
func look(e *Engine) world {
	var w world
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err == nil {
		for line := range strings.Lines(string(raw)) {
			if f := strings.Fields(line); len(f) > 4 && strings.Contains(line, e.Dir) {
				w = append(w, "mount "+f[4])
			}
		}
	}
	var links []net.Interface
	err = e.in(func() (err error) { links, err = net.Interfaces(); return err })
	if err == nil {
		for _, l := range links {
			if l.Name == e.Bridge || strings.HasPrefix(l.Name, network.LinkPrefix(e.Bridge)) || strings.HasPrefix(l.Name, network.IFBPrefix(e.Bridge)) {
				w = append(w, "link "+l.Name)
			}
		}
	}
	var tables []*nftables.Table
	err = e.in(func() error {
		c, err := nftables.New()
		if err == nil {
			tables, err = c.ListTables()
		}
		return err
	})
	if err == nil {
		for _, t := range tables {
			if strings.Contains(t.Name, e.Bridge) {
				w = append(w, "table "+t.Name)
			}
		}
	}
	for _, pattern := range []string{"/sys/fs/cgroup/*/" + e.Group(), "/sys/fs/cgroup/" + e.Group()} {
		found, err := filepath.Glob(pattern)
		if err == nil {
			for _, dir := range found {
				w = append(w, "control group "+dir)
			}
		}
	}
	if bundles, err := os.ReadDir(filepath.Join(e.Dir, "exec/bundles")); err == nil {
		for _, b := range bundles {
			w = append(w, "bundle "+b.Name())
		}
	}
	for _, p := range processes(e) {
		w = append(w, "process "+strconv.Itoa(p.pid)+" "+p.command)
	}
	return w
}

type process struct {
	pid     int
	command string
}

// processes are those whose command line names the engine's directory.
func processes(e *Engine) (out []process) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, d := range entries {
		pid, err := strconv.Atoi(d.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		raw, err := os.ReadFile(filepath.Join("/proc", d.Name(), "cmdline"))
		if err != nil {
			continue
		}
		line := strings.TrimSpace(strings.ReplaceAll(string(raw), "\x00", " "))
		if strings.Contains(line, e.Dir) {
			out = append(out, process{pid, line})
		}
	}
	return out
}

// awaitExit waits for a process that is not a child.
func awaitExit(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	deadline, _ := ctx.Deadline()
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return context.DeadlineExceeded
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if n > 0 {
			return nil
		}
		if err != nil && err != unix.EINTR {
			return err
		}
	}
}
