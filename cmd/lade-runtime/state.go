package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/resctrl"
	"lade/internal/linux/sys"
)

// statusPaused is runc's addition to the specification's states.
const statusPaused specs.ContainerState = "paused"

// process names a process so that another one of the same number is never taken
// for it.
type process struct {
	Pid       int    `json:"pid"`
	StartTime uint64 `json:"start_time"` // in clock ticks since boot: proc_pid_stat(5)
}

// alive reports whether the process still runs: not when the kernel only takes it
// apart, which lasts until all processors have come by (synchronize_rcu).
func (p process) alive() bool {
	if p.Pid <= 0 {
		return false
	}
	s, err := statOf(p.Pid)
	return err == nil && s.started == p.StartTime && !s.ended()
}

// stat is what proc_pid_stat(5) tells of a process.
type stat struct {
	state   byte
	flags   uint64
	threads int
	started uint64 // in clock ticks since boot
}

// ended reports whether no thread of the process will run its program any more.
// What is told of the first thread says so only when there is no other.
func (s *stat) ended() bool {
	const exiting = 0x4 // PF_EXITING, include/linux/sched.h
	return s.threads <= 1 && (s.state == 'Z' || s.state == 'X' || s.flags&exiting != 0)
}

// container is what is kept of a container: state.json.
type container struct {
	specs.State
	Rootfs    string    `json:"rootfs"`
	Created   time.Time `json:"created"`
	StartTime uint64    `json:"init_process_start"` // of Pid
	Cgroup    string    `json:"cgroup_path"`
	Scope     string    `json:"systemd_scope,omitempty"` // as cgroup.Scope; empty: the group was made directly
	Creator   process   `json:"creator"`                 // who made it, or has died at it
	Hooked    bool      `json:"hooked,omitempty"`        // its configuration has hooks
	Resctrl   []string  `json:"resctrl,omitempty"`       // directories to remove: resctrl.Own
	NoProcess bool      `json:"no_process,omitempty"`
	OwnRoot   bool      `json:"own_root,omitempty"` // see runtime.Exec
	OwnPidNS  bool      `json:"own_pid_namespace"`

	// Config is the configuration as it was when the container was created: later
	// changes of the bundle must have no effect (runtime.md, "Lifecycle").
	Config []byte       `json:"-"`
	Hooks  *specs.Hooks `json:"-"` // those to come

	dir  string
	file *stateFile
	open *cgroup.Group // its control group, when that is open already
}

func validID(id string) error {
	if id == "" {
		return errdefs.Invalidf("container id cannot be empty")
	}
	valid := id != "" && id != "." && id != ".." && len(id) <= 1024
	for _, r := range id {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("_+-.", r):
		default:
			valid = false
		}
	}
	if !valid {
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
	c.file = stateFileIn(c.dir)
	config, state, err := c.file.read()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errdefs.NotFoundf("container does not exist")
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(state, c); err != nil {
		return nil, errdefs.DataLossf("state of container %s: %w", id, err)
	}
	c.Config = config
	if c.Hooked {
		s, err := c.spec()
		if err != nil {
			return nil, err
		}
		c.Hooks = s.Hooks
	}
	return c, c.observe()
}

// save makes what c says its state. A reader sees the old or the new one.
func (c *container) save() error { return c.file.add(c.line()) }

func (c *container) fifo() string { return filepath.Join(c.dir, "exec.fifo") }

func (c *container) spec() (*specs.Spec, error) { return parseSpec(c.Config) }

// observe finds out what the container does now.
func (c *container) observe() error {
	if c.Status == specs.StateCreating && c.Creator.alive() {
		return nil
	}
	c.Status = specs.StateStopped
	if !c.init().alive() {
		c.Pid = 0
		return nil
	}
	c.Status = specs.StateRunning
	if c.waiting() {
		c.Status = specs.StateCreated
	}
	if g, err := c.group(); err == nil {
		if frozen, err := g.Frozen(); err == nil && frozen {
			c.Status = statusPaused
		}
	}
	return nil
}

// init returns the container's first process.
func (c *container) init() process { return process{c.Pid, c.StartTime} }

// waiting reports whether the first process waits for start: it still reads
// from the fifo. A start that was killed may have left the fifo behind.
func (c *container) waiting() bool {
	fd, err := unix.Open(c.fifo(), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	sys.CloseAll(fd)
	return err == nil
}

func statOf(pid int) (*stat, error) {
	b, err := sys.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil, err
	}
	return parseStat(string(b))
}

func parseStat(line string) (s *stat, err error) {
	// The command, in parentheses, may contain anything.
	f := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(f) < 20 {
		return nil, errdefs.Internalf("/proc/PID/stat is too short: %q", line)
	}
	s = &stat{state: f[0][0]}
	if s.flags, err = strconv.ParseUint(f[6], 10, 64); err == nil {
		if s.threads, err = strconv.Atoi(f[17]); err == nil {
			s.started, err = strconv.ParseUint(f[19], 10, 64)
		}
	}
	return s, err
}

// startTime returns when a process was started.
func startTime(pid int) (uint64, error) {
	s, err := statOf(pid)
	if err != nil {
		return 0, err
	}
	return s.started, nil
}

// pidfd opens the container's first process, which is surely still the same.
func (c *container) pidfd() (int, error) {
	fd, err := unix.PidfdOpen(c.Pid, 0)
	if err != nil || !c.init().alive() {
		sys.CloseAll(fd)
		return -1, errdefs.Conflictf("container not running")
	}
	return fd, nil
}

func (c *container) group() (*cgroup.Group, error) {
	if c.open != nil {
		return c.open, nil
	}
	if c.Cgroup == "" {
		return nil, errdefs.NotFoundf("container %s has no control group", c.ID)
	}
	h, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	where := c.Cgroup
	if c.Scope != "" {
		where = c.Scope
	}
	c.open, err = h.Open(where)
	return c.open, err
}

// owner returns the name of the user that the container belongs to.
func (c *container) owner() string {
	var st unix.Stat_t
	if err := unix.Stat(c.dir, &st); err != nil || st.Uid == 0 {
		return "root"
	}
	return "#" + strconv.FormatUint(uint64(st.Uid), 10)
}

// reserve makes the container's directory, with a state from which delete finds
// everything that is made from now on. Errors: Conflict.
func (a *app) reserve(c *container, config []byte) error {
	c.dir = filepath.Join(a.root, c.ID)
	err := os.Mkdir(c.dir, 0o711)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(a.root, 0o700); err == nil {
			err = os.Mkdir(c.dir, 0o711)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return errdefs.Conflictf("container with given ID already exists")
	} else if err != nil {
		return err
	}
	failpoint.Hit("runtime.reserved")
	c.Version, c.Status, c.Created = specs.Version, specs.StateCreating, time.Now().UTC()
	c.Config, c.file = config, stateFileIn(c.dir)
	c.Creator.Pid = os.Getpid()
	c.Creator.StartTime, err = startTime(c.Creator.Pid)
	if err == nil {
		err = c.file.create(config)
	}
	if err == nil {
		err = c.save()
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(c.dir))
	}
	failpoint.Hit("runtime.creating")
	return nil
}

// lock keeps other verbs that change the container away until unlock. A killed
// holder holds nothing.
func (c *container) lock() (unlock func(), err error) {
	fd, err := unix.Open(c.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, errdefs.NotFoundf("container does not exist")
	}
	if err := sys.Retry(func() error { return unix.Flock(fd, unix.LOCK_EX) }); err != nil {
		sys.CloseAll(fd)
		return nil, sys.Error("flock", c.dir, err)
	}
	return sync.OnceFunc(func() { sys.CloseAll(fd) }), nil
}

// end kills every process of the container and removes its control group.
func (c *container) end(ctx context.Context) error {
	g, err := c.group()
	if err == nil {
		if gone, err := g.DeleteIdle(); gone || err != nil {
			return err
		}
		if err := g.Kill(ctx); err != nil && !errors.Is(err, errdefs.NotFound) {
			return err
		}
		if err := g.Delete(ctx); err != nil && !errors.Is(err, errdefs.NotFound) {
			return err
		}
		return nil
	}
	fd, err := c.pidfd()
	if err != nil {
		return nil // it has ended
	}
	defer sys.CloseAll(fd)
	if err := pidfd.Signal(fd, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return pidfd.Ended(ctx, fd)
}

// remove ends what is left of the container, runs its poststop hooks and
// forgets it, in this order: a delete that is killed can be repeated.
func (a *app) remove(ctx context.Context, c *container) error {
	if err := c.end(ctx); err != nil {
		return err
	}
	return a.forget(ctx, c)
}

// removeEnded is remove of a container whose process has just ended, and mostly
// all others with it. A limit of time, for which the Go runtime would make its
// poller and wake a thread, is only set where there is something to wait for.
func (a *app) removeEnded(c *container) error {
	if c.open != nil && c.Hooks == nil {
		gone, err := c.open.DeleteIdle()
		if err != nil {
			return err
		}
		if gone {
			return a.forget(context.Background(), c)
		}
	}
	ctx, cancel := cleanUp()
	defer cancel()
	return a.remove(ctx, c)
}

// forget is what remove does after the end.
func (a *app) forget(ctx context.Context, c *container) error {
	if err := resctrl.Remove(resctrl.Dir, c.Resctrl); err != nil {
		return err
	}
	failpoint.Hit("runtime.ended")
	c.Status, c.Pid = specs.StateStopped, 0
	if c.Hooks != nil {
		// What fails is told, and the rest goes on: runtime.md, "Lifecycle" 13.
		for i := range c.Hooks.Poststop {
			if err := c.hooks(ctx, "poststop", c.Hooks.Poststop[i:i+1]); err != nil {
				a.log.Warn(err.Error())
			}
		}
	}
	failpoint.Hit("runtime.poststop")
	// First what makes it a container.
	if err := c.file.remove(); err != nil {
		return err
	}
	failpoint.Hit("runtime.forgotten")
	// Nothing else is in there, unless the container was never started.
	if err := unix.Rmdir(c.dir); err == nil || err == unix.ENOENT {
		return nil
	}
	return os.RemoveAll(c.dir)
}
