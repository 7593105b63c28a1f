package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/resctrl"
	"lade/internal/linux/sys"
	"lade/internal/runtime"
)

// codeExecFailed is how exec ends when it could not start the process, as runc
// does.
const codeExecFailed = 255

// execFlags are those of exec.
type execFlags struct {
	process, cwd, user                  string
	consoleSocket, pidFile, pidfdSocket string
	apparmor, label                     string
	env, caps, gids, groups             words
	preserve                            int
	detach, tty, ignorePaused           bool
	noNewPrivs                          *bool
}

func parseExec(args []string) (e execFlags, id string, command []string, err error) {
	f := newFlags("exec")
	f.StringVar(&e.process, "process", "", "file with the process part of a spec")
	f.StringVar(&e.cwd, "cwd", "", "working directory")
	f.StringVar(&e.user, "user", "", "user[:group]")
	f.Var(&e.gids, "additional-gids", "additional group id; may be repeated")
	f.StringVar(&e.pidFile, "pid-file", "", "file for the process id")
	f.StringVar(&e.consoleSocket, "console-socket", "", "unix socket that receives the terminal")
	f.StringVar(&e.pidfdSocket, "pidfd-socket", "", "unix socket that receives a pidfd of the process")
	f.BoolVar(&e.detach, "detach", false, "do not wait for the end")
	f.BoolVar(&e.tty, "tty", false, "with a terminal")
	f.Var(&e.env, "env", "NAME=VALUE; may be repeated")
	f.Var(&e.caps, "cap", "additional capability; may be repeated")
	f.StringVar(&e.apparmor, "apparmor", "", "AppArmor profile")
	f.StringVar(&e.label, "process-label", "", "SELinux label")
	f.Var(&e.groups, "cgroup", "[controller,…:]path of a control group below the container's; may be repeated")
	f.BoolVar(&e.ignorePaused, "ignore-paused", false, "also in a paused container; it then waits")
	f.IntVar(&e.preserve, "preserve-fds", 0, "hand so many descriptors after the standard ones on")
	f.BoolFunc("no-new-privs", "set or clear no_new_privs", func(s string) error {
		b, err := strconv.ParseBool(s)
		e.noNewPrivs = &b
		return err
	})
	for short, name := range map[string]string{"p": "process", "u": "user", "g": "additional-gids", "d": "detach", "t": "tty", "e": "env", "c": "cap"} {
		f.alias(short, name)
	}
	if err := f.Parse(args); err != nil {
		return e, "", nil, err
	}
	if f.NArg() < 1 {
		return e, "", nil, f.wants("a minimum of 1 argument")
	}
	return e, f.Arg(0), f.Args()[1:], nil
}

func execVerb(ctx context.Context, a *app, args []string) error {
	if !mustEnter() {
		if err := runtime.Shield(); err != nil {
			return err
		}
	}
	f, id, command, err := parseExec(args)
	if err != nil {
		return err
	}
	code, err := a.exec(ctx, &f, id, command)
	if err != nil {
		a.fail(fmt.Errorf("exec failed: %w", err))
		return exitCode(codeExecFailed)
	}
	return ended(code, nil)
}

// exec runs an additional process and returns its exit code, 0 if it is
// detached.
func (a *app) exec(ctx context.Context, f *execFlags, id string, command []string) (int, error) {
	preserve, err := preserved(f.preserve)
	if err != nil {
		return 0, err
	}
	c, err := a.load(id)
	if err != nil {
		return 0, err
	}
	switch {
	case c.Status == statusPaused && !f.ignorePaused:
		return 0, errdefs.Conflictf("cannot exec in a paused container (use --ignore-paused to override)")
	case c.Status != specs.StateRunning && c.Status != specs.StateCreated && c.Status != statusPaused:
		return 0, errdefs.Conflictf("cannot exec in a %s container", c.Status)
	}
	if mustEnter() {
		return a.enterOf(ctx, c)
	}
	s, err := c.spec()
	if err != nil {
		return 0, err
	}
	p, err := f.processOf(s.Process, command)
	if err != nil {
		return 0, err
	}
	if err := a.checkProcess(p); err != nil {
		return 0, err
	}
	a.labels(p)
	switch {
	case p.Terminal && f.detach && f.consoleSocket == "":
		return 0, errdefs.Invalidf("cannot allocate tty if lade-runtime will detach without setting console socket")
	case f.consoleSocket != "" && !(f.detach && p.Terminal):
		return 0, errdefs.Invalidf("cannot use console socket if lade-runtime will not detach or allocate tty")
	}
	fd, err := c.pidfd()
	if err != nil {
		return 0, err
	}
	defer sys.CloseAll(fd)
	e := &runtime.Exec{
		Pid: c.Pid, Pidfd: fd, Process: p, User: f.user, SpecUser: f.user == "" || f.process != "",
		Stdin: 0, Stdout: 1, Stderr: 2, Preserve: preserve, OwnRoot: c.OwnRoot,
		Personality: s.Linux.Personality, MemoryPolicy: s.Linux.MemoryPolicy,
	}
	if e.Cgroup, err = c.execGroup(f.groups); err != nil {
		return 0, err
	}
	if e.Filter, e.FilterFlags, e.Listener, err = filter(s.Linux.Seccomp, c.State); err != nil {
		return 0, err
	}
	if r := s.Linux.IntelRdt; r != nil {
		f, err := resctrl.At(resctrl.Dir)
		if err != nil {
			return 0, err
		}
		if e.Tasks, err = f.Tasks(c.ID, r); err != nil {
			return 0, err
		}
		defer sys.CloseAll(e.Tasks...)
	}
	// Earlier execs may have had more than the container, but nobody noted that.
	e.Traced = mayTrace(s.Process) || mayTrace(p)
	return a.launch(ctx, f, e)
}

func (a *app) launch(ctx context.Context, f *execFlags, e *runtime.Exec) (int, error) {
	l, err := runtime.NewLauncher(runtime.Options{Threads: 1, Logger: a.log, Once: true})
	if err != nil {
		return 0, err
	}
	defer l.Close()
	r, err := l.Exec(ctx, e)
	if err != nil {
		return 0, err
	}
	defer sys.CloseAll(r.Pidfd, r.Console)
	err = f.deliver(r)
	if err != nil {
		_ = pidfd.Signal(r.Pidfd, unix.SIGKILL) // it may have ended meanwhile
		return 0, err
	}
	if f.detach {
		return 0, nil
	}
	return a.attend(r.Pidfd, r.Console)
}

func (f *execFlags) deliver(r *runtime.Process) error {
	if f.consoleSocket != "" {
		if err := sendFile(f.consoleSocket, "/dev/ptmx", r.Console); err != nil {
			return err
		}
	}
	if f.pidfdSocket != "" {
		if err := sendFile(f.pidfdSocket, "pidfd", r.Pidfd); err != nil {
			return err
		}
	}
	return writePid(f.pidFile, r.Pid)
}

// processOf returns the process to run: that of the file, or the container's
// own with what the flags change.
func (f *execFlags) processOf(p *specs.Process, command []string) (*specs.Process, error) {
	if f.process != "" {
		b, err := os.ReadFile(f.process)
		if err != nil {
			return nil, err
		}
		p := &specs.Process{}
		if err := json.Unmarshal(b, p); err != nil {
			return nil, errdefs.Invalidf("%s: %w", f.process, err)
		}
		return p, nil
	}
	if len(command) == 0 {
		return nil, errdefs.Invalidf("exec args cannot be empty")
	}
	if p == nil {
		p = &specs.Process{Cwd: "/"}
	}
	p.Args, p.Terminal = command, f.tty
	p.ConsoleSize = nil // it is that of the first process's terminal
	p.Env = append(p.Env, f.env...)
	if f.cwd != "" {
		p.Cwd = f.cwd
	}
	if f.apparmor != "" {
		p.ApparmorProfile = f.apparmor
	}
	if f.label != "" {
		p.SelinuxLabel = f.label
	}
	if f.noNewPrivs != nil {
		p.NoNewPrivileges = *f.noNewPrivs
	}
	if err := f.addCaps(p); err != nil {
		return nil, err
	}
	for _, g := range f.gids {
		n, err := strconv.ParseUint(g, 10, 32)
		if err != nil {
			return nil, errdefs.Invalidf("invalid group id %q", g)
		}
		p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(n))
	}
	return p, f.setUser(p)
}

func (f *execFlags) addCaps(p *specs.Process) error {
	if len(f.caps) == 0 {
		return nil
	}
	if p.Capabilities == nil {
		p.Capabilities = &specs.LinuxCapabilities{}
	}
	for _, set := range []*[]string{&p.Capabilities.Bounding, &p.Capabilities.Effective, &p.Capabilities.Permitted} {
		*set = append(*set, f.caps...)
	}
	return nil
}

// setUser takes a user that is given by number as it is; one by name is left to
// be looked up in the container.
func (f *execFlags) setUser(p *specs.Process) error {
	uid, gid, both := strings.Cut(f.user, ":")
	u, err := strconv.ParseUint(uid, 10, 32)
	if f.user == "" || err != nil {
		return nil
	}
	p.User.UID = uint32(u)
	if both {
		g, err := strconv.ParseUint(gid, 10, 32)
		if err != nil {
			return nil
		}
		p.User.GID = uint32(g)
	}
	f.user = ""
	return nil
}

// execGroup returns the control group of an exec: the container's, or what is
// below it: PATH in every hierarchy, or CONTROLLER[,CONTROLLER…]:PATH.
func (c *container) execGroup(below []string) (*cgroup.Group, error) {
	if c.Cgroup == "" {
		return nil, nil
	}
	g, err := c.group()
	if len(below) == 0 {
		if err != nil {
			g = nil // it has none of its own
		}
		return g, nil
	}
	where := c.Cgroup
	for _, b := range below {
		if !strings.Contains(b, ":") {
			where = path.Join(c.Cgroup, path.Join("/", b))
		}
	}
	if where != c.Cgroup {
		h, err := cgroup.Detect()
		if err != nil {
			return nil, err
		}
		if g, err = h.Open(where); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	for _, b := range below {
		controllers, p, one := strings.Cut(b, ":")
		if !one {
			continue
		}
		for name := range strings.SplitSeq(controllers, ",") {
			if g, err = g.In(name, path.Join(c.Cgroup, path.Join("/", p))); err != nil {
				return nil, err
			}
		}
	}
	return g, nil
}
