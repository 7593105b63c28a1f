package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/moby/sys/signal"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/caps"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/sys"
	"lade/internal/runtime"
)

func verbs() map[string]func(context.Context, *app, []string) error {
	return map[string]func(context.Context, *app, []string) error{
		"create": create, "start": start, "run": runVerb, "state": state, "kill": kill, "delete": deleteVerb, "exec": execVerb,
		"ps": ps, "list": list, "pause": pause, "resume": resume, "spec": spec, "features": featuresVerb, "update": update,
		holdVerb: holdScope,
	}
}

func state(_ context.Context, a *app, args []string) error {
	id, err := one(newFlags("state"), args)
	if err != nil {
		return err
	}
	c, err := a.load(id)
	if err != nil {
		return err
	}
	return a.print(struct {
		specs.State
		Rootfs  string    `json:"rootfs"`
		Created time.Time `json:"created"`
		Owner   string    `json:"owner"`
	}{c.State, c.Rootfs, c.Created, c.Owner})
}

func kill(ctx context.Context, a *app, args []string) error {
	f := newFlags("kill")
	var all bool
	f.BoolVar(&all, "all", false, "to every process")
	f.BoolVar(&all, "a", false, "to every process")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() < 1 || f.NArg() > 2 {
		return errdefs.Invalidf("usage: kill [--all] ID [SIGNAL]")
	}
	name := "SIGTERM"
	if f.NArg() == 2 {
		name = f.Arg(1)
	}
	sig, err := signal.ParseSignal(name)
	if err != nil {
		return errdefs.Invalidf("unknown signal %q", name)
	}
	c, err := a.load(f.Arg(0))
	if err != nil {
		return err
	}
	if all {
		g, err := c.group()
		if err != nil {
			return err
		}
		if sig == unix.SIGKILL {
			return g.Kill(ctx)
		}
		pids, err := g.Pids()
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
				return sys.Error("kill", strconv.Itoa(pid), err)
			}
		}
		return nil
	}
	fd, err := c.pidfd()
	if err != nil {
		return err
	}
	defer sys.CloseAll(fd)
	return pidfd.Signal(fd, sig)
}

func deleteVerb(_ context.Context, a *app, args []string) error {
	f := newFlags("delete")
	var force bool
	f.BoolVar(&force, "force", false, "kill it if it runs")
	f.BoolVar(&force, "f", false, "kill it if it runs")
	id, err := one(f, args)
	if err != nil {
		return err
	}
	c, err := a.load(id)
	if errors.Is(err, errdefs.NotFound) && force {
		// What a create that was interrupted has left.
		return os.RemoveAll(filepath.Join(a.root, id))
	}
	if err != nil {
		return err
	}
	// A container that was never started may be deleted as it is.
	if c.Status != specs.StateStopped && c.Status != specs.StateCreated && !force {
		return errdefs.Conflictf("cannot delete container %s that is not stopped: %s", id, c.Status)
	}
	return a.delete(c)
}

func (a *app) delete(c *container) error {
	ctx, cancel := cleanUp()
	defer cancel()
	s, serr := loadSpec(c.Bundle)
	if err := c.remove(ctx); err != nil {
		return err
	}
	if serr == nil && s.Hooks != nil {
		c.Status, c.Pid = specs.StateStopped, 0
		return c.hooks(ctx, s.Hooks.Poststop)
	}
	return nil
}

// hooks runs hooks with the container's state as their input; the first that
// fails ends the series. Source: config.md, "POSIX-platform Hooks".
func (c *container) hooks(ctx context.Context, list []specs.Hook) error {
	state, err := json.Marshal(c.State)
	if err != nil {
		return err
	}
	for _, h := range list {
		ctx, cancel := context.WithCancel(ctx)
		if h.Timeout != nil {
			ctx, cancel = context.WithTimeout(ctx, time.Duration(*h.Timeout)*time.Second)
		}
		cmd := exec.CommandContext(ctx, h.Path)
		cmd.Args, cmd.Env, cmd.Dir, cmd.Stdin = h.Args, h.Env, c.Bundle, bytes.NewReader(state)
		if len(cmd.Args) == 0 {
			cmd.Args = []string{h.Path}
		}
		if cmd.Env == nil {
			cmd.Env = []string{}
		}
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil {
			return fmt.Errorf("error running hook %s: %w, output: %s", h.Path, err, bytes.TrimSpace(out))
		}
	}
	return nil
}

type list1 []string

func (l *list1) String() string     { return strings.Join(*l, " ") }
func (l *list1) Set(s string) error { *l = append(*l, s); return nil }

func execVerb(ctx context.Context, a *app, args []string) error {
	f := newFlags("exec")
	var process, cwd, user, pidFile, socket string
	var detach, tty bool
	var env list1
	f.StringVar(&process, "process", "", "file with the process's part of a spec")
	f.StringVar(&process, "p", "", "file with the process's part of a spec")
	f.StringVar(&cwd, "cwd", "", "working directory")
	f.StringVar(&user, "user", "", "UID[:GID]")
	f.StringVar(&user, "u", "", "UID[:GID]")
	f.StringVar(&pidFile, "pid-file", "", "file for the process id")
	f.StringVar(&socket, "console-socket", "", "unix socket that receives the terminal")
	for _, n := range []string{"detach", "d"} {
		f.BoolVar(&detach, n, false, "do not wait for the end")
	}
	for _, n := range []string{"tty", "t"} {
		f.BoolVar(&tty, n, false, "with a terminal")
	}
	for _, n := range []string{"env", "e"} {
		f.Var(&env, n, "NAME=VALUE")
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() < 1 || process == "" && f.NArg() < 2 {
		return errdefs.Invalidf("usage: exec [FLAG…] ID COMMAND [ARGUMENT…]")
	}
	c, err := a.load(f.Arg(0))
	if err != nil {
		return err
	}
	if c.Status != specs.StateRunning {
		return errdefs.Conflictf("cannot exec in a %s container", c.Status)
	}
	s, err := loadSpec(c.Bundle)
	if err != nil {
		return err
	}
	p := s.Process
	if process != "" {
		b, err := os.ReadFile(process)
		if err != nil {
			return err
		}
		p = &specs.Process{}
		if err := json.Unmarshal(b, p); err != nil {
			return errdefs.Invalidf("%s: %w", process, err)
		}
	} else {
		p.Args, p.Terminal = f.Args()[1:], tty
		p.Env = append(p.Env, env...)
		if cwd != "" {
			p.Cwd = cwd
		}
	}
	if p.Terminal != (socket != "") {
		return errdefs.Invalidf("a console socket is needed for a terminal, and only then")
	}
	fd, err := c.pidfd()
	if err != nil {
		return err
	}
	defer sys.CloseAll(fd)
	e := &runtime.Exec{Pid: c.Pid, Pidfd: fd, Process: p, User: user, SpecUser: user == "", Stdin: 0, Stdout: 1, Stderr: 2}
	if g, err := c.group(); err == nil {
		e.Cgroup = g
	}
	if e.Filter, e.FilterFlags, e.Listener, err = filter(s.Linux.Seccomp, c.State); err != nil {
		return err
	}
	// Earlier execs may have had more than the container, but nobody noted that.
	e.Traced = mayTrace(s.Process) || mayTrace(p)
	l, err := runtime.NewLauncher(runtime.Options{Threads: 1, Logger: a.log})
	if err != nil {
		return err
	}
	defer l.Close()
	r, err := l.Exec(ctx, e)
	if err != nil {
		if se, ok := errors.AsType[*runtime.StartError](err); ok && se.Code != 0 {
			fmt.Fprintln(a.stderr, "lade-runtime: exec failed:", err)
			return exitCode(se.Code)
		}
		return err
	}
	defer sys.CloseAll(r.Pidfd, r.Console)
	if socket != "" {
		if err := sendConsole(socket, r.Console); err != nil {
			return errors.Join(err, pidfd.Signal(r.Pidfd, unix.SIGKILL))
		}
	}
	if err := writePid(pidFile, r.Pid); err != nil || detach {
		return err
	}
	code, err := attend(r.Pidfd)
	if err == nil && code != 0 {
		return exitCode(code)
	}
	return err
}

func ps(ctx context.Context, a *app, args []string) error {
	f := newFlags("ps")
	var format string
	f.StringVar(&format, "format", "table", "table or json")
	f.StringVar(&format, "f", "table", "table or json")
	id, err := one(f, args)
	if err != nil {
		return err
	}
	c, err := a.load(id)
	if err != nil {
		return err
	}
	g, err := c.group()
	if err != nil {
		return err
	}
	pids, err := g.Pids()
	if err != nil {
		return err
	}
	if format == "json" {
		return json.NewEncoder(a.stdout).Encode(pids)
	}
	fmt.Fprintln(a.stdout, "PID\tCOMMAND")
	for _, p := range pids {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p)); err == nil {
			fmt.Fprintf(a.stdout, "%d\t%s\n", p, bytes.ReplaceAll(bytes.TrimRight(b, "\x00"), []byte{0}, []byte{' '}))
		}
	}
	return nil
}

func list(_ context.Context, a *app, args []string) error {
	f := newFlags("list")
	var format string
	var quiet bool
	f.StringVar(&format, "format", "table", "table or json")
	f.StringVar(&format, "f", "table", "table or json")
	f.BoolVar(&quiet, "quiet", false, "ids only")
	f.BoolVar(&quiet, "q", false, "ids only")
	if err := f.Parse(args); err != nil {
		return err
	}
	dirs, err := os.ReadDir(a.root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	all := []*container{}
	for _, d := range dirs {
		if c, err := a.load(d.Name()); err == nil {
			all = append(all, c)
		}
	}
	switch {
	case quiet:
		for _, c := range all {
			fmt.Fprintln(a.stdout, c.ID)
		}
		return nil
	case format == "json":
		return json.NewEncoder(a.stdout).Encode(all)
	}
	w := tabwriter.NewWriter(a.stdout, 12, 1, 3, ' ', 0)
	fmt.Fprintln(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER")
	for _, c := range all {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", c.ID, c.Pid, c.Status, c.Bundle, c.Created.Format(time.RFC3339Nano), "root")
	}
	return w.Flush()
}

func pause(ctx context.Context, a *app, args []string) error {
	id, err := one(newFlags("pause"), args)
	if err != nil {
		return err
	}
	c, err := a.load(id)
	if err != nil {
		return err
	}
	if c.Status != specs.StateRunning && c.Status != specs.StateCreated {
		return errdefs.Conflictf("container not running or created: %s", c.Status)
	}
	g, err := c.group()
	if err != nil {
		return err
	}
	return g.Freeze(ctx)
}

func resume(ctx context.Context, a *app, args []string) error {
	id, err := one(newFlags("resume"), args)
	if err != nil {
		return err
	}
	c, err := a.load(id)
	if err != nil {
		return err
	}
	if c.Status != "paused" {
		return errdefs.Conflictf("container not paused")
	}
	g, err := c.group()
	if err != nil {
		return err
	}
	return g.Thaw(ctx)
}

func update(ctx context.Context, a *app, args []string) error {
	f := newFlags("update")
	var file string
	f.StringVar(&file, "resources", "", "file with linux.resources of a spec, - for standard input")
	f.StringVar(&file, "r", "", "file with linux.resources of a spec, - for standard input")
	var memory, pids, quota, period, shares int64
	f.Int64Var(&memory, "memory", 0, "bytes")
	f.Int64Var(&pids, "pids-limit", 0, "processes")
	f.Int64Var(&quota, "cpu-quota", 0, "microseconds in a period")
	f.Int64Var(&period, "cpu-period", 0, "microseconds")
	f.Int64Var(&shares, "cpu-share", 0, "relative weight")
	id, err := one(f, args)
	if err != nil {
		return err
	}
	c, err := a.load(id)
	if err != nil {
		return err
	}
	r := &specs.LinuxResources{Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{}}
	if file != "" {
		in := io.Reader(a.stdin)
		if file != "-" {
			o, err := os.Open(file)
			if err != nil {
				return err
			}
			defer o.Close()
			in = o
		}
		if err := json.NewDecoder(in).Decode(r); err != nil {
			return errdefs.Invalidf("resources: %w", err)
		}
	} else {
		if memory != 0 {
			r.Memory.Limit = &memory
		}
		if pids != 0 {
			r.Pids = &specs.LinuxPids{Limit: &pids}
		}
		if quota != 0 {
			r.CPU.Quota = &quota
		}
		if period != 0 {
			p := uint64(period)
			r.CPU.Period = &p
		}
		if shares != 0 {
			s := uint64(shares)
			r.CPU.Shares = &s
		}
	}
	g, err := c.group()
	if err != nil {
		return err
	}
	if err := g.Update(r); err != nil {
		return err
	}
	return c.updateScope(ctx, r)
}

// spec writes an example of a config.json, as the specification has it.
func spec(_ context.Context, _ *app, args []string) error {
	f := newFlags("spec")
	bundle := f.String("bundle", ".", "directory of the bundle")
	if err := f.Parse(args); err != nil {
		return err
	}
	path := filepath.Join(*bundle, "config.json")
	if _, err := os.Lstat(path); err == nil {
		return errdefs.Conflictf("File %s exists. Remove it first", path)
	}
	b, err := json.MarshalIndent(example(), "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o666)
}

func example() *specs.Spec {
	allowed := []string{"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	return &specs.Spec{
		Version: specVersion, Root: &specs.Root{Path: "rootfs", Readonly: true}, Hostname: "lade",
		Process: &specs.Process{
			Args: []string{"sh"}, Cwd: "/", NoNewPrivileges: true,
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"},
			Capabilities: &specs.LinuxCapabilities{Bounding: allowed, Permitted: allowed, Effective: allowed},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
		},
		Linux: &specs.Linux{
			Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.MountNamespace}, {Type: specs.CgroupNamespace},
			},
			MaskedPaths: []string{"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
				"/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}

func featuresVerb(_ context.Context, a *app, args []string) error {
	if err := newFlags("features").Parse(args); err != nil {
		return err
	}
	yes, no := true, false
	last, err := caps.Last()
	if err != nil {
		return err
	}
	return a.print(&features.Features{
		OCIVersionMin: "1.0.0", OCIVersionMax: specVersion,
		Hooks: []string{"prestart", "createRuntime", "poststart", "poststop"},
		MountOptions: strings.Fields("async atime bind defaults dev diratime dirsync exec noatime nodev nodiratime noexec norelatime nostrictatime nosuid " +
			"nosymfollow private ratime rbind rdev rdiratime relatime rexec rnoatime rnodev rnodiratime rnoexec rnosuid ro rprivate rrelatime rro rrw rshared " +
			"rslave rstrictatime rsuid runbindable rw shared slave strictatime suid symfollow unbindable"),
		Linux: &features.Linux{
			Namespaces:   []string{"cgroup", "ipc", "mount", "network", "pid", "uts"},
			Capabilities: caps.Set(1<<(last+1) - 1).Names(),
			Cgroup:       &features.Cgroup{V1: &yes, V2: &yes, Systemd: &yes, SystemdUser: &no},
			Seccomp:      &features.Seccomp{Enabled: &yes},
			Apparmor:     &features.Apparmor{Enabled: &yes},
			Selinux:      &features.Selinux{Enabled: &no},
		},
	})
}
