package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/pty"
	"lade/internal/need"
)

// exec runs e in the container and returns its output and exit code.
func (s *sandbox) exec(c *running, e *Exec) (string, int) {
	s.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Close()
	e.Pid, e.Pidfd, e.Cgroup, e.Stdin, e.Stdout, e.Stderr = c.Pid, c.Pidfd, c.Cgroup, -1, int(w.Fd()), int(w.Fd())
	p, err := s.l.Exec(s.t.Context(), e)
	w.Close()
	if err != nil {
		s.t.Fatalf("exec: %v", err)
	}
	defer unix.Close(p.Pidfd)
	b, err := io.ReadAll(r)
	if err != nil {
		s.t.Error(err)
	}
	code, _, err := pidfd.Wait(p.Pidfd)
	if err != nil {
		s.t.Error(err)
	}
	return string(b), code
}

func TestExec(t *testing.T) {
	s := newSandbox(t)
	c := s.container("sleep")
	r, err := s.start(c)
	if err != nil {
		t.Fatal(err)
	}
	proc := *c.Spec.Process
	proc.Args = []string{"payload", "report"}
	proc.Cwd = "/tmp"
	proc.NoNewPrivileges = true
	out, code := s.exec(r, &Exec{Process: &proc, User: "app", GroupAdd: []string{"bin"}, Filter: defaultFilter(t)})
	if code != 0 {
		t.Fatalf("%d %q", code, out)
	}
	rep := parseReport(t, out)
	if rep.Pid == 1 || rep.Pid > 50 || rep.Hostname != "box" || rep.Cwd != "/tmp" || rep.Sid != rep.Pid {
		t.Errorf("%+v", rep)
	}
	for _, n := range []string{"mnt", "net", "uts", "pid", "ipc", "cgroup"} {
		want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", r.Pid, n))
		if err != nil {
			t.Fatal(err)
		}
		if rep.Namespaces[n] != want {
			t.Errorf("namespace %s is %s, the container's %s", n, rep.Namespaces[n], want)
		}
	}
	for key, want := range map[string]string{"Uid": "1000 1000 1000 1000", "Groups": "1 44 1001", "Seccomp": "2", "NoNewPrivs": "1", "SigBlk": "0000000000000000", "CapBnd": "00000000a80425fb"} {
		if got := strings.Join(strings.Fields(rep.Status[key]), " "); got != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
	if !slices.Equal(rep.FDs, []string{"0", "1", "2"}) {
		t.Errorf("descriptors %v", rep.FDs)
	}
	for _, g := range rep.Cgroups {
		if !strings.HasSuffix(g, ":/") {
			t.Errorf("control group %s", g)
		}
	}
	for _, tc := range []struct {
		edit func(*specs.Process)
		code int
		text string
	}{
		{func(p *specs.Process) { p.Args = []string{"nosuch"} }, 127, `exec: "nosuch": executable file not found in $PATH`},
		{func(p *specs.Process) { p.Args = []string{"/etc/data"} }, 126, `exec: "/etc/data": permission denied`},
		{func(p *specs.Process) { p.Args = []string{"/proc/self/exe"} }, 126, `exec: "/proc/self/exe": too many levels of symbolic links`},
		{func(p *specs.Process) { p.Cwd = "/nope" }, 127, `chdir to cwd ("/nope") set in config.json failed: no such file or directory`},
	} {
		p := *c.Spec.Process
		tc.edit(&p)
		_, err := s.l.Exec(t.Context(), &Exec{Pid: r.Pid, Pidfd: r.Pidfd, Cgroup: r.Cgroup, Process: &p, Stdin: -1, Stdout: -1, Stderr: -1})
		if e, ok := errors.AsType[*StartError](err); !ok || e.Code != tc.code || err.Error() != tc.text {
			t.Errorf("%v, want %d %q", err, tc.code, tc.text)
		}
	}
	if _, err := s.l.Exec(t.Context(), &Exec{Pid: r.Pid, Pidfd: r.Pidfd, Process: c.Spec.Process, User: "nouser"}); err == nil || err.Error() != "unable to find user nouser: no matching entries in passwd file" {
		t.Error(err)
	}
	// The caller is where it was.
	if mine, err := os.Readlink("/proc/thread-self/ns/pid_for_children"); err != nil || mine == rep.Namespaces["pid"] {
		t.Errorf("%s, %v", mine, err)
	}
	if err := pidfd.Signal(r.Pidfd, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	r.wait()
	if _, err := s.l.Exec(t.Context(), &Exec{Pid: r.Pid, Pidfd: r.Pidfd, Process: c.Spec.Process}); !errors.Is(err, errdefs.Conflict) {
		t.Errorf("exec in an ended container: %v", err)
	}
}

// readAll reads a terminal until the other side is closed, which it reports as
// EIO.
func readAll(fd int) string {
	var out bytes.Buffer
	b := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return out.String()
		}
		out.Write(b[:n])
	}
}

func TestTerminal(t *testing.T) {
	s := newSandbox(t)
	c := s.container("report")
	c.User = "app"
	c.Spec.Process.Terminal = true
	c.Spec.Process.ConsoleSize = &specs.Box{Height: 33, Width: 99}
	p, err := s.l.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{p, s, nil}
	t.Cleanup(r.end)
	rep := parseReport(t, readAll(p.Console))
	if rep.Rows != 33 || rep.Cols != 99 || !rep.CTTY || rep.Fg != 1 || rep.Sid != 1 {
		t.Errorf("%dx%d, controlling %v, foreground %d, session %d", rep.Rows, rep.Cols, rep.CTTY, rep.Fg, rep.Sid)
	}
	if m := rep.Mounts["/dev/console"]; m.Type != "devpts" || m.Root != "/0" {
		t.Errorf("/dev/console: %+v", m)
	}
	if !slices.Equal(rep.FDs, []string{"0", "1", "2"}) {
		t.Errorf("descriptors %v", rep.FDs)
	}

	// In a running container, with a size changed later.
	c = s.container("sleep")
	run, err := s.start(c)
	if err != nil {
		t.Fatal(err)
	}
	proc := *c.Spec.Process
	proc.Args = []string{payload, "echo"}
	proc.Terminal = true
	e, err := s.l.Exec(t.Context(), &Exec{Pid: run.Pid, Pidfd: run.Pidfd, Cgroup: run.Cgroup, Process: &proc})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(e.Pidfd)
	defer unix.Close(e.Console)
	if err := pty.Resize(e.Console, 10, 20); err != nil {
		t.Error(err)
	}
	if _, err := unix.Write(e.Console, []byte("hello\n")); err != nil {
		t.Error(err)
	}
	if out := readAll(e.Console); out != "hello\r\ngot hello\r\n" {
		t.Errorf("%q", out)
	}
	if _, _, err := pidfd.Wait(e.Pidfd); err != nil {
		t.Error(err)
	}
}

func TestJoin(t *testing.T) {
	s := newSandbox(t)
	first := s.container("sleep")
	a, err := s.start(first)
	if err != nil {
		t.Fatal(err)
	}
	c := s.container("report")
	c.Spec.Hostname = ""
	for i, n := range c.Spec.Linux.Namespaces {
		if name := map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.PIDNamespace: "pid"}[n.Type]; name != "" {
			c.Spec.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/ns/%s", a.Pid, name)
		}
	}
	rep := s.report(c)
	if rep.Pid == 1 || rep.Hostname != "box" {
		t.Errorf("pid %d, hostname %q", rep.Pid, rep.Hostname)
	}
	for _, n := range []string{"net", "ipc", "uts", "pid"} {
		if want, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", a.Pid, n)); rep.Namespaces[n] != want {
			t.Errorf("namespace %s: %s, want %s", n, rep.Namespaces[n], want)
		}
	}
	// The host's, and a network namespace by descriptor.
	c = s.container("report")
	c.Spec.Hostname = ""
	c.Spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}}
	c.NetNS = netns(t)
	var st unix.Stat_t
	if err := unix.Fstat(c.NetNS, &st); err != nil {
		t.Fatal(err)
	}
	rep = s.report(c)
	for _, n := range []string{"ipc", "uts", "pid", "cgroup"} {
		if want, _ := os.Readlink("/proc/self/ns/" + n); rep.Namespaces[n] != want {
			t.Errorf("namespace %s: %s, want %s", n, rep.Namespaces[n], want)
		}
	}
	if want := "net:[" + strconv.FormatUint(st.Ino, 10) + "]"; rep.Namespaces["net"] != want {
		t.Errorf("network namespace %s, want %s", rep.Namespaces["net"], want)
	}
	if len(rep.Cgroups) == 0 || !strings.HasSuffix(rep.Cgroups[0], c.ID) {
		t.Errorf("control groups %v", rep.Cgroups)
	}
}

// TestInit runs the reaper as process 1.
func TestInit(t *testing.T) {
	s := newSandbox(t)
	need.Root(t)
	s.l.o.InitPath = need.Binary(t, "lade-init")
	c := s.container("report")
	c.Init = true
	rep := s.report(c)
	if rep.Pid == 1 || rep.Status["PPid"] != "1" || rep.Pgid != rep.Pid {
		t.Errorf("pid %d, parent %s, group %d", rep.Pid, rep.Status["PPid"], rep.Pgid)
	}
	if m := rep.Mounts["/sbin/docker-init"]; !slices.Contains(m.Options, "ro") {
		t.Errorf("%+v", m)
	}
	for _, tc := range []struct {
		args []string
		code int
	}{{[]string{"exit", "42"}, 42}, {[]string{"kill", "9"}, 137}, {[]string{"kill", "15"}, 143}} {
		c := s.container(tc.args...)
		c.Init = true
		if out, code := s.run(c); code != tc.code {
			t.Errorf("%v: %d %q", tc.args, code, out)
		}
	}
	c = s.container()
	c.Init = true
	c.Spec.Process.Args = []string{"nosuch"}
	if out, code := s.run(c); code != 127 || !strings.Contains(out, "exec nosuch failed") {
		t.Errorf("%d %q", code, out)
	}
	c = s.container("signals")
	c.Init = true
	r, err := s.start(c)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 10)
	if _, err := r.out.Read(b); err != nil {
		t.Error(err)
	}
	if err := pidfd.Signal(r.Pidfd, unix.SIGTERM); err != nil {
		t.Error(err)
	}
	if _, code := r.wait(); code != 7 {
		t.Errorf("a passed on signal: %d", code)
	}
}

// TestMany starts containers from many goroutines while the collector runs all
// the time, and counts what is left open.
func TestMany(t *testing.T) {
	s := newSandbox(t)
	if _, code := s.run(s.container("exit", "3")); code != 3 {
		t.Fatal(code)
	}
	before := openFiles(t)
	stop := make(chan struct{})
	var noise, wg sync.WaitGroup
	noise.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	})
	const workers, each = 8, 6
	cs := make(chan *Container, workers*each)
	for i := range workers * each {
		c := s.container("exit", strconv.Itoa(i))
		if i%5 == 0 {
			c.Spec.Process.Args[0] = "/nope"
		}
		cs <- c
	}
	close(cs)
	for range workers {
		wg.Go(func() {
			for c := range cs {
				p, err := s.l.Start(context.Background(), c)
				if c.Spec.Process.Args[0] == "/nope" {
					if err == nil {
						t.Error("started")
					}
					continue
				}
				if err != nil {
					t.Error(err)
					continue
				}
				code, _, err := pidfd.Wait(p.Pidfd)
				if want, _ := strconv.Atoi(c.Spec.Process.Args[2]); code != want || err != nil {
					t.Errorf("exit code %d, want %d, %v", code, want, err)
				}
				unix.Close(p.Pidfd)
				if err := p.Cgroup.Delete(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	noise.Wait()
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}

func TestContext(t *testing.T) {
	s := newSandbox(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.l.Start(ctx, s.container()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := s.l.Exec(ctx, &Exec{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestDumpable checks what keeps a container from reading this process's memory
// through a child that has not executed yet.
func TestDumpable(t *testing.T) {
	newSandbox(t)
	if n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || n != 0 {
		t.Errorf("dumpable = %d, %v", n, err)
	}
}

// TestIgnoredSignals starts from a process that ignores a signal.
func TestIgnoredSignals(t *testing.T) {
	signal.Ignore(unix.SIGHUP)
	t.Cleanup(func() { signal.Reset(unix.SIGHUP) })
	s := newSandbox(t)
	if got := s.report(s.container("report")).Status["SigIgn"]; got != "0000000000000000" {
		t.Errorf("SigIgn = %s", got)
	}
}
