package server

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/ids"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/service"
	"lade/internal/need"
	"lade/internal/runtime"
	"lade/internal/supervisor"
	"lade/internal/supervisor/wire"
)

// plain is a Launcher of ordinary processes: no namespaces, no root needed.
type plain struct{}

func (plain) Start(_ context.Context, c *runtime.Container) (*runtime.Process, error) {
	return spawn(c.Spec.Process, c.Stdin, c.Stdout, c.Stderr)
}

func (plain) Exec(_ context.Context, e *runtime.Exec) (*runtime.Process, error) {
	return spawn(e.Process, e.Stdin, e.Stdout, e.Stderr)
}

func (plain) Restock() {}
func (plain) Trim()    {}

func spawn(p *specs.Process, stdio ...int) (*runtime.Process, error) {
	began := time.Now()
	path, err := exec.LookPath(p.Args[0])
	if err != nil {
		return nil, &runtime.StartError{Code: 127, Op: "exec:", Path: p.Args[0], Errno: syscall.ENOENT}
	}
	if p.Args[0] == "panic" {
		panic("asked for")
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(null)
	proc := &runtime.Process{Pidfd: -1, Console: -1}
	sys := &syscall.SysProcAttr{PidFD: &proc.Pidfd, Setsid: true}
	if p.Terminal {
		if proc.Console, err = unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err != nil {
			return nil, err
		}
		if err := unix.IoctlSetPointerInt(proc.Console, unix.TIOCSPTLCK, 0); err != nil {
			return nil, err
		}
		tty, err := openPeer(proc.Console)
		if err != nil {
			return nil, err
		}
		defer unix.Close(tty)
		stdio = []int{tty, tty, tty}
		sys.Setctty = true
	}
	var files []uintptr
	for _, fd := range stdio {
		if fd < 0 {
			fd = null
		}
		files = append(files, uintptr(fd))
	}
	proc.Prepare = time.Since(began)
	pid, _, err := syscall.StartProcess(path, p.Args, &syscall.ProcAttr{Env: append(os.Environ(), p.Env...), Files: files, Sys: sys})
	if err != nil {
		return nil, &runtime.StartError{Code: 126, Op: "exec:", Path: path, Errno: syscall.EACCES}
	}
	proc.Pid, proc.StartedAt = pid, time.Now()
	proc.Program = time.Since(began) - proc.Prepare
	return proc, nil
}

// asSupervisor in the environment makes the test binary a supervisor.
const asSupervisor = "LADE_TEST_SUPERVISOR"

func TestMain(m *testing.M) {
	if os.Args[0] == payload {
		os.Exit(inContainer(os.Args[1:]))
	}
	if os.Getenv(asSupervisor) != "" {
		if os.Getenv(asSupervisor) == "runtime" {
			Harden()
		}
		var l Launcher = plain{}
		if os.Getenv(asSupervisor) == "runtime" {
			rt, err := runtime.NewLauncher(runtime.Options{})
			if err != nil {
				os.Stderr.WriteString(err.Error())
				os.Exit(1)
			}
			l = rt
		}
		if err := serve(os.Args[2], l); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serve is what the command's main does.
func serve(root string, l Launcher) error {
	state := TakeState()
	build := "test"
	if state != 0 {
		build = "upgraded"
	}
	s, err := New(Options{Root: root, Launcher: l, Build: build, IdleExit: 300 * time.Millisecond, Cgroup: openGroup, State: state})
	if err != nil {
		return err
	}
	if state != 0 {
		return s.Run()
	}
	if err := service.Detach(os.DevNull); err != nil {
		return err
	}
	return s.Run()
}

// events collects what a client is told.
type events struct {
	t    testing.TB
	mu   sync.Mutex
	more sync.Cond
	got  map[key]wire.Exited
	n    int
	oom  []string
	lost error
}

func newEvents(t testing.TB) *events {
	e := &events{t: t, got: map[key]wire.Exited{}}
	e.more.L = &e.mu
	return e
}

func (e *events) Exited(x wire.Exited) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.got[key{x.ID, x.ExecID}] = x
	e.n++
	e.more.Broadcast()
}

func (e *events) OOM(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.oom = append(e.oom, id)
	e.more.Broadcast()
}

func (e *events) Lost(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lost = err
	e.more.Broadcast()
}

// until waits for a condition on what was told.
func (e *events) until(what string, ok func() bool) {
	e.t.Helper()
	late := false
	timer := time.AfterFunc(60*time.Second, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		late = true
		e.more.Broadcast()
	})
	defer timer.Stop()
	e.mu.Lock()
	defer e.mu.Unlock()
	for !ok() {
		if late {
			e.t.Fatalf("%s did not come", what)
		}
		e.more.Wait()
	}
}

// has reports whether a process's end was told.
func (e *events) has(id, exec string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, there := e.got[key{id, exec}]
	return there
}

// forget makes exit wait for another end of the same id.
func (e *events) forget(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.got, key{id, ""})
}

func (e *events) exit(id, exec string) (x wire.Exited) {
	e.t.Helper()
	e.until("the end of "+id+exec, func() (ok bool) { x, ok = e.got[key{id, exec}]; return ok })
	return x
}

// env is a server under test and a client of it.
type env struct {
	t      testing.TB
	s      *Server // nil if it is a process of its own
	root   string
	client *supervisor.Client
	hello  wire.Welcome
	events *events
}

// inProcess runs a server in the test's process.
func inProcess(t testing.TB, change func(*Options)) *env {
	t.Helper()
	e := &env{t: t, root: t.TempDir()}
	if _, bench := t.(*testing.B); bench { // as the real one, on a tmpfs
		var err error
		if e.root, err = os.MkdirTemp("/dev/shm", "ladetest"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(e.root) })
	}
	o := Options{Root: e.root, Launcher: plain{}, Build: "test"}
	if change != nil {
		change(&o)
	}
	e.root = o.Root
	var err error
	if e.s, err = New(o); err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		if err := e.s.Run(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		e.s.poll.post(func() {
			for _, c := range e.s.containers {
				for p := range c.processes() {
					_ = unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0)
				}
			}
			e.s.whenQuiet()
		})
		done.Wait()
	})
	e.connect(supervisor.Options{})
	return e
}

// whenQuiet ends the server as soon as nothing runs.
func (s *Server) whenQuiet() {
	if s.shutdown() != nil {
		s.poll.after(5*time.Millisecond, s.whenQuiet)
	}
}

// ownProcess runs a server in a process of its own.
func ownProcess(t testing.TB, launcher string) *env {
	t.Helper()
	t.Setenv(asSupervisor, launcher)
	e := &env{t: t, root: t.TempDir()}
	pidfd := -1
	// Between the end of the connection and that of the directory, which it would
	// make again: it goes when it was idle for a while.
	t.Cleanup(func() { outlive(t, pidfd) })
	e.connect(supervisor.Options{Binary: "/proc/self/exe"})
	var err error
	if pidfd, err = unix.PidfdOpen(e.hello.Pid, 0); err != nil {
		t.Fatal(err)
	}
	return e
}

// outlive waits until a supervisor has ended, and kills one that does not end.
func outlive(t testing.TB, pidfd int) {
	if pidfd < 0 {
		return
	}
	defer unix.Close(pidfd)
	ended := func(within time.Duration) bool {
		end := time.Now().Add(within)
		for time.Now().Before(end) {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(time.Until(end).Milliseconds())+1)
			if err == nil && n > 0 {
				return true
			}
		}
		return false
	}
	if ended(need.Patience(10 * time.Second)) {
		return
	}
	_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) // it may end now
	if !ended(need.Patience(30 * time.Second)) {
		t.Error("the supervisor does not end")
	}
}

func (e *env) connect(o supervisor.Options) {
	e.t.Helper()
	e.events = newEvents(e.t)
	o.Root, o.Handler = e.root, e.events
	var err error
	if e.client, e.hello, err = supervisor.Connect(e.t.Context(), o); err != nil {
		e.t.Fatal(err)
	}
	c := e.client
	e.t.Cleanup(func() { c.Close() })
}

// start starts a shell command as a container that logs.
func (e *env) start(script string, change func(*wire.Start), files ...*os.File) (id string, s *supervisor.Started) {
	e.t.Helper()
	m := e.message(script)
	if change != nil {
		change(m)
	}
	s, err := e.client.Start(e.t.Context(), m, files...)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(s.Close)
	return m.ID, s
}

func (e *env) message(script string) *wire.Start {
	id := ids.New()
	return &wire.Start{
		ID:   id,
		Spec: &specs.Spec{Process: &specs.Process{Args: []string{"sh", "-c", script}}},
		Log:  wire.Log{Driver: "json-file", Path: e.logPath(id)},
	}
}

func (e *env) logPath(id string) string { return filepath.Join(e.root, id+"-json.log") }

// pair returns the two ends of a client's connection.
func pair(t testing.TB) (ours, theirs *os.File) {
	t.Helper()
	fd, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fd[0], true); err != nil {
		t.Fatal(err)
	}
	ours, theirs = os.NewFile(uintptr(fd[0]), "client"), os.NewFile(uintptr(fd[1]), "stream")
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	if err := ours.SetReadDeadline(time.Now().Add(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

func halfClose(t testing.TB, f *os.File) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_WR) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func openGroup(path string) (*cgroup.Group, error) {
	h, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	return h.Open(path)
}

func openFiles(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

func alive(pid int) bool { return unix.Kill(pid, 0) == nil }
