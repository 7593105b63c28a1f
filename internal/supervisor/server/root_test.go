package server

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/ids"
	"lade/internal/need"
	"lade/internal/runtime"
	"lade/internal/supervisor"
	"lade/internal/supervisor/wire"
)

// payload is where a container of the tests sees the test binary.
const payload = "/bin/payload"

func inContainer(args []string) int {
	switch args[0] {
	case "exit":
		n, _ := strconv.Atoi(args[1])
		return n
	case "sleep":
		fmt.Println("ready")
		time.Sleep(time.Hour)
	case "count":
		for i := 1; ; i++ {
			fmt.Println(i)
			time.Sleep(10 * time.Millisecond)
		}
	case "echo":
		_, _ = io.Copy(os.Stdout, os.Stdin)
	case "eat":
		var all [][]byte
		for range 1000 {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = 1
			}
			all = append(all, b)
		}
		return len(all) % 7
	}
	return 0
}

// rooted is an env whose server starts real containers.
type rooted struct {
	*env
	disk  string // for what is no supervisor's
	image string
}

func newRooted(t testing.TB, own bool) *rooted {
	t.Helper()
	need.Root(t)
	plainBinary(t)
	r := &rooted{}
	if own {
		r.env = ownProcess(t, "runtime")
	} else {
		l, err := runtime.NewLauncher(runtime.Options{Threads: 4})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		r.env = inProcess(t, func(o *Options) { o.Launcher, o.Cgroup = l, openGroup })
	}
	r.disk = t.TempDir()
	r.image = filepath.Join(r.disk, "image")
	for _, d := range []string{"bin", "proc", "dev", "etc", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(r.image, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.image, payload), exe, 0o755); err != nil {
		t.Fatal(err)
	}
	return r
}

// plainBinary skips a test that needs the test binary to be as small and as
// static as a program is; the race detector's is not.
func plainBinary(t testing.TB) {
	t.Helper()
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Skip("the test binary is dynamically linked")
		}
	}
}

func (r *rooted) message(args ...string) *wire.Start {
	r.t.Helper()
	id := fmt.Sprintf("ladetest-%d-%s", os.Getpid(), ids.New()[:12])
	up := filepath.Join(r.disk, "ctr", id)
	for _, d := range []string{"upper", "work"} {
		if err := os.MkdirAll(filepath.Join(up, d), 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	return &wire.Start{
		ID: id,
		Spec: &specs.Spec{
			Root:    &specs.Root{},
			Process: &specs.Process{Args: append([]string{payload}, args...), Cwd: "/"},
			Mounts: []specs.Mount{
				{Destination: "/proc", Type: "proc", Source: "proc"},
				{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755"}},
				{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666"}},
			},
			Linux: &specs.Linux{
				CgroupsPath: "/" + id,
				Namespaces: []specs.LinuxNamespace{
					{Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.UTSNamespace},
					{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.CgroupNamespace},
				},
			},
		},
		Rootfs: wire.Rootfs{Lower: []string{r.image}, Upper: up + "/upper", Work: up + "/work", Volatile: true},
		Log:    wire.Log{Driver: "json-file", Path: r.logPath(id)},
	}
}

func (r *rooted) run(m *wire.Start, files ...*os.File) *supervisor.Started {
	r.t.Helper()
	s, err := r.client.Start(r.t.Context(), m, files...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if s.Pidfd != nil {
			raw, err := s.Pidfd.SyscallConn()
			if err == nil {
				_ = raw.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
			}
		}
		s.Close()
		need.Eventually(r.t, "the control group is gone", func() bool { return !r.hasGroup(m.ID) })
	})
	return s
}

func (r *rooted) hasGroup(id string) bool {
	for _, pattern := range []string{"/sys/fs/cgroup/*/", "/sys/fs/cgroup/"} {
		if found, _ := filepath.Glob(pattern + id); len(found) > 0 {
			return true
		}
	}
	return false
}

func (r *rooted) ready(id string) {
	r.t.Helper()
	need.Eventually(r.t, "it is ready", func() bool { return slices.Contains(r.logged(id), "stdout ready\n") })
}

func TestRealContainer(t *testing.T) {
	r := newRooted(t, false)
	m := r.message("sleep")
	s := r.run(m)
	if s.Prepare <= 0 || s.Program <= 0 {
		t.Errorf("times: %+v", s)
	}
	r.ready(m.ID)
	if !r.hasGroup(m.ID) {
		t.Error("the container has no control group")
	}
	ex := func(id string, terminal bool, args ...string) (*supervisor.Started, string) {
		client, stream := pair(t)
		x, err := r.client.Exec(t.Context(), &wire.Exec{
			ID: m.ID, ExecID: id, Process: &specs.Process{Args: append([]string{payload}, args...), Cwd: "/", Terminal: terminal},
			Stdio:  wire.Stdio{Stdin: true, Stdout: true},
			Attach: []wire.Attach{{Stream: 1, Stdin: true, Stdout: true, Raw: true}},
		}, stream)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(x.Close)
		stream.Close()
		if args[0] == "sleep" {
			b := make([]byte, len("ready\n"))
			_, _ = io.ReadFull(client, b)
			return x, string(b)
		}
		if terminal {
			fmt.Fprint(client, "hello\n\x04")
		} else {
			fmt.Fprint(client, "hello\n")
			halfClose(t, client)
		}
		b, err := io.ReadAll(client)
		if err != nil {
			t.Fatal(err)
		}
		return x, string(b)
	}
	if _, out := ex("e1", false, "echo"); out != "hello\n" {
		t.Errorf("output %q", out)
	}
	if x := r.events.exit(m.ID, "e1"); x.Code != 0 {
		t.Errorf("exit %+v, want code 0", x)
	}
	if _, out := ex("e2", true, "echo"); out != "hello\r\nhello\r\n" {
		t.Errorf("output %q", out)
	}
	ex("e3", false, "exit", "9")
	if x := r.events.exit(m.ID, "e3"); x.Code != 9 {
		t.Errorf("exit %+v, want code 9", x)
	}
	ex("e4", false, "sleep")
	if err := r.client.Signal(t.Context(), &wire.Signal{ID: m.ID, Signal: 9}); err != nil {
		t.Fatal(err)
	}
	if x := r.events.exit(m.ID, ""); x.Code != 137 || x.OOM {
		t.Errorf("exit %+v, want code 137", x)
	}
	if x := r.events.exit(m.ID, "e4"); x.Code != 137 { // the kernel ended it with its namespace
		t.Errorf("%+v", x)
	}
	// At once again, while the control group is being removed.
	again := r.message("exit", "6")
	m.Spec = again.Spec
	m.Spec.Linux.CgroupsPath = "/" + m.ID
	r.events.forget(m.ID)
	r.run(m)
	if x := r.events.exit(m.ID, ""); x.Code != 6 {
		t.Errorf("exit %+v, want code 6", x)
	}
}

func TestRealTerminal(t *testing.T) {
	r := newRooted(t, false)
	m := r.message("echo")
	m.Spec.Process.Terminal = true
	m.Stdio = wire.Stdio{Stdin: true, StdinOnce: true}
	client, stream := pair(t)
	attachAll(m)
	if s := r.run(m, stream); s.Console == nil {
		t.Error("a container with a terminal was started without one")
	}
	stream.Close()
	if err := r.client.Resize(t.Context(), &wire.Resize{ID: m.ID, Rows: 10, Cols: 20}); err != nil {
		t.Error(err)
	}
	fmt.Fprint(client, "x\n\x04")
	if b, err := io.ReadAll(client); err != nil || string(b) != "x\r\nx\r\n" {
		t.Errorf("output %q, %v", b, err)
	}
	if x := r.events.exit(m.ID, ""); x.Code != 0 {
		t.Errorf("exit %+v, want code 0", x)
	}
}

func TestRealOOM(t *testing.T) {
	r := newRooted(t, false)
	m := r.message("eat")
	limit := int64(48 << 20)
	m.Spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
	r.run(m)
	if x := r.events.exit(m.ID, ""); x.Code != 137 || !x.OOM {
		t.Errorf("exit %+v, want code 137", x)
	}
	// an exec is killed, the container lives
	m = r.message("sleep")
	m.Spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
	r.run(m)
	r.ready(m.ID)
	x, err := r.client.Exec(t.Context(), &wire.Exec{ID: m.ID, ExecID: "e1", Process: &specs.Process{Args: []string{payload, "eat"}, Cwd: "/"}})
	if err != nil {
		t.Fatal(err)
	}
	x.Close()
	if x := r.events.exit(m.ID, "e1"); x.Code != 137 {
		t.Skipf("the kernel chose another victim: %+v", x)
	}
	r.events.until("the event", func() bool { return slices.Contains(r.events.oom, m.ID) })
}

func TestRealFreeze(t *testing.T) {
	r := newRooted(t, false)
	m := r.message("count")
	r.run(m)
	freeze := func(thaw bool) {
		t.Helper()
		if err := r.client.Freeze(t.Context(), &wire.Freeze{ID: m.ID, Thaw: thaw}); err != nil {
			t.Fatal(err)
		}
	}
	freeze(false)
	n := len(r.logged(m.ID))
	time.Sleep(100 * time.Millisecond)
	if now := len(r.logged(m.ID)); now > n+1 { // a line may have been in the pipe
		t.Errorf("it counts on: %d, %d", n, now)
	}
	r.client.Close()
	r.connect(supervisor.Options{})
	if len(r.hello.Containers) != 1 || !r.hello.Containers[0].Frozen {
		t.Errorf("hello of the server: %+v", r.hello.Containers)
	}
	if _, err := r.exec(m.ID, "e1", "", nil); !errors.Is(err, errdefs.Conflict) {
		t.Errorf("exec into a frozen container: %v", err)
	}
	freeze(true)
	need.Eventually(t, "it counts again", func() bool { return len(r.logged(m.ID)) > n+5 })
	limit := int64(64 << 20)
	if err := r.client.Update(t.Context(), &wire.Update{ID: m.ID, Resources: &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}}); err != nil {
		t.Error(err)
	}
	freeze(false)
	if err := r.client.Signal(t.Context(), &wire.Signal{ID: m.ID, Signal: 9}); err != nil {
		t.Fatal(err)
	}
	if x := r.events.exit(m.ID, ""); x.Code != 137 {
		t.Errorf("exit %+v, want code 137", x)
	}
}

// TestRealLost kills a supervisor with real containers; the next one must
// freeze, exec into, end and clean up what it did not start.
func TestRealLost(t *testing.T) {
	r := newRooted(t, true)
	m := r.message("count")
	s := r.run(m)
	_ = unix.Kill(r.hello.Pid, unix.SIGKILL)
	r.events.until("the loss", func() bool { return r.events.lost != nil })
	r.connect(supervisor.Options{Binary: "/proc/self/exe"})
	a, err := r.client.Adopt(t.Context(), &wire.Adopt{
		ID: m.ID, Pid: s.Pid, Pidfd: 1, Stdout: 2, Stderr: 3, StartedAt: s.StartedAt, Cgroup: m.Spec.Linux.CgroupsPath, Log: m.Log,
	}, s.Pidfd, s.Stdout, s.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := r.client.Freeze(t.Context(), &wire.Freeze{ID: m.ID}); err != nil {
		t.Error(err)
	}
	if err := r.client.Freeze(t.Context(), &wire.Freeze{ID: m.ID, Thaw: true}); err != nil {
		t.Error(err)
	}
	x, err := r.client.Exec(t.Context(), &wire.Exec{ID: m.ID, ExecID: "e1", Process: &specs.Process{Args: []string{payload, "exit", "3"}, Cwd: "/"}})
	if err != nil {
		t.Fatal(err)
	}
	x.Close()
	if x := r.events.exit(m.ID, "e1"); x.Code != 3 {
		t.Errorf("exit %+v, want code 3", x)
	}
	if err := r.client.Signal(t.Context(), &wire.Signal{ID: m.ID, Signal: 9, All: true}); err != nil {
		t.Fatal(err)
	}
	if x := r.events.exit(m.ID, ""); x.Code != 137 && (x.Code != -1 || need.TellsExits(t)) {
		t.Errorf("exit %+v, want code 137", x)
	}
	for i, l := range r.logged(m.ID) {
		if l != fmt.Sprintf("stdout %d\n", i+1) {
			t.Fatalf("line %d is %q", i+1, l)
		}
	}
}

// TestRealHarden looks at a supervisor from outside.
func TestRealHarden(t *testing.T) {
	r := newRooted(t, true)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", r.hello.Pid))
	if err != nil || strings.TrimSpace(string(status)) != "-999" {
		t.Logf("oom_score_adj %s, %v (not permitted here?)", status, err)
	}
	// It is dumpable no more: its /proc files belong to root whatever its user,
	// and no other user may look inside.
	m := r.message("sleep")
	r.run(m)
	r.ready(m.ID)
	sid, err := unix.Getsid(r.hello.Pid)
	if err != nil || sid != r.hello.Pid {
		t.Errorf("session %d, %v", sid, err)
	}
	links, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.hello.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", r.hello.Pid, l.Name()))
		if err != nil {
			continue
		}
		n, _ := strconv.Atoi(l.Name())
		_, flags, _ := strings.Cut(string(info), "flags:")
		flags, _, _ = strings.Cut(strings.TrimSpace(flags), "\n")
		if v, err := strconv.ParseUint(flags, 8, 64); n > 2 && (err != nil || v&unix.O_CLOEXEC == 0) {
			t.Errorf("descriptor %s is inherited by programs: %s", l.Name(), info)
		}
	}
}

// BenchmarkRealStart is the start of a container, by request. What the
// supervisor and its protocol add to the runtime's own time is the overhead.
func BenchmarkRealStart(b *testing.B) {
	r := newRooted(b, false)
	var prepare, program, over []time.Duration
	for b.Loop() {
		b.StopTimer()
		m := r.message("exit", "0")
		m.Log = wire.Log{Driver: "none"}
		b.StartTimer()
		began := time.Now()
		s, err := r.client.Start(b.Context(), m)
		if err != nil {
			b.Fatal(err)
		}
		over = append(over, time.Since(began)-s.Prepare-s.Program)
		prepare, program = append(prepare, s.Prepare), append(program, s.Program)
		b.StopTimer()
		s.Close()
		r.events.exit(m.ID, "")
		need.Eventually(b, "the clean-up", func() bool { return !r.hasGroup(m.ID) })
		b.StartTimer()
	}
	for name, all := range map[string][]time.Duration{"prepare": prepare, "program": program, "overhead": over} {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds()), name+"-p50-µs")
	}
}

// TestRealUpgrade replaces the program under a real container, which can then
// be frozen, entered and ended as before.
func TestRealUpgrade(t *testing.T) {
	r := newRooted(t, true)
	m := r.message("count")
	s := r.run(m)
	if err := r.client.Upgrade(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	r.connect(supervisor.Options{})
	if len(r.hello.Containers) != 1 || r.hello.Containers[0].Pid != s.Pid || r.hello.Build != "upgraded" {
		t.Fatalf("hello of the server: %+v", r.hello)
	}
	for _, thaw := range []bool{false, true} {
		if err := r.client.Freeze(t.Context(), &wire.Freeze{ID: m.ID, Thaw: thaw}); err != nil {
			t.Error(err)
		}
	}
	x, err := r.client.Exec(t.Context(), &wire.Exec{ID: m.ID, ExecID: "e1", Process: &specs.Process{Args: []string{payload, "exit", "3"}, Cwd: "/"}})
	if err != nil {
		t.Fatal(err)
	}
	x.Close()
	if x := r.events.exit(m.ID, "e1"); x.Code != 3 {
		t.Errorf("exit %+v, want code 3", x)
	}
	if err := r.client.Signal(t.Context(), &wire.Signal{ID: m.ID, Signal: 9, All: true}); err != nil {
		t.Fatal(err)
	}
	if x := r.events.exit(m.ID, ""); x.Code != 137 {
		t.Errorf("exit %+v, want code 137", x)
	}
}
