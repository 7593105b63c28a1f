package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/sys"
)

// container is what is kept of a container: state.json.
type container struct {
	specs.State
	Rootfs    string    `json:"rootfs"`
	Created   time.Time `json:"created"`
	Owner     string    `json:"owner"`
	StartTime uint64    `json:"init_process_start"` // of Pid, in clock ticks since boot: proc_pid_stat(5)
	Cgroup    string    `json:"cgroup_path"`
	Scope     string    `json:"systemd_scope,omitempty"` // as cgroup.Scope; empty: the group was made directly

	dir  string
	spec *specs.Spec
}

func validID(id string) error {
	if !regexp.MustCompile(`^[\w+.-]+$`).MatchString(id) || id == "." || id == ".." || len(id) > 1024 {
		return errdefs.Invalidf("invalid container ID format")
	}
	return nil
}

// load reads a container's state. Errors: NotFound.
func (a *app) load(id string) (*container, error) {
	if err := validID(id); err != nil {
		return nil, err
	}
	c := &container{dir: filepath.Join(a.root, id)}
	b, err := os.ReadFile(filepath.Join(c.dir, "state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errdefs.NotFoundf("container does not exist")
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, errdefs.DataLossf("state of container %s: %w", id, err)
	}
	return c, c.observe()
}

// save writes state.json so that a reader sees the old or the new one.
func (c *container) save() error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	tmp := filepath.Join(c.dir, ".state.json")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(c.dir, "state.json"))
}

func (c *container) fifo() string { return filepath.Join(c.dir, "exec.fifo") }

// observe finds out what the container does now.
func (c *container) observe() error {
	c.Status = specs.StateStopped
	if !c.alive() {
		c.Pid = 0
		return nil
	}
	c.Status = specs.StateRunning
	if _, err := os.Lstat(c.fifo()); err == nil {
		c.Status = specs.StateCreated
	}
	if g, err := c.group(); err == nil {
		if frozen, err := g.Frozen(); err == nil && frozen {
			c.Status = "paused"
		}
	}
	return nil
}

func (c *container) alive() bool {
	t, state, err := startTime(c.Pid)
	return c.Pid > 0 && err == nil && t == c.StartTime && state != 'Z' && state != 'X'
}

// startTime returns when a process was started, and its state's letter.
func startTime(pid int) (uint64, byte, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, err
	}
	// The command, in parentheses, may contain anything.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 20 {
		return 0, 0, errdefs.Internalf("/proc/%d/stat is too short", pid)
	}
	t, err := strconv.ParseUint(f[19], 10, 64)
	return t, f[0][0], err
}

// pidfd opens the container's first process, which is surely still the same.
func (c *container) pidfd() (int, error) {
	fd, err := unix.PidfdOpen(c.Pid, 0)
	if err != nil || !c.alive() {
		sys.CloseAll(fd)
		return -1, errdefs.Conflictf("container not running")
	}
	return fd, nil
}

func (c *container) group() (*cgroup.Group, error) {
	if c.Cgroup == "" {
		return nil, errdefs.NotFoundf("container %s has no control group", c.ID)
	}
	h, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	if c.Scope != "" {
		return h.Open(c.Scope)
	}
	return h.Open(c.Cgroup)
}

// reserve makes the container's directory. Errors: Conflict.
func (a *app) reserve(id, bundle string, spec *specs.Spec) (*container, error) {
	if err := validID(id); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(a.root, 0o700); err != nil {
		return nil, err
	}
	c := &container{dir: filepath.Join(a.root, id), spec: spec, Created: time.Now().UTC()}
	if err := os.Mkdir(c.dir, 0o711); errors.Is(err, fs.ErrExist) {
		return nil, errdefs.Conflictf("container with given ID already exists")
	} else if err != nil {
		return nil, err
	}
	c.State = specs.State{Version: specVersion, ID: id, Status: specs.StateCreating, Bundle: bundle, Annotations: spec.Annotations}
	return c, nil
}

// remove ends what is left of the container and forgets it.
func (c *container) remove(ctx context.Context) error {
	if g, err := c.group(); err == nil {
		if err := g.Kill(ctx); err != nil && !errors.Is(err, errdefs.NotFound) {
			return err
		}
		if err := g.Delete(ctx); err != nil && !errors.Is(err, errdefs.NotFound) {
			return err
		}
	} else if fd, err := c.pidfd(); err == nil {
		defer sys.CloseAll(fd)
		if err := pidfd.Signal(fd, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return os.RemoveAll(c.dir)
}
