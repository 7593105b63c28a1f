package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/linux/sys"
	"lade/internal/need"
)

// TestMain makes the test binary the program in the containers that the tests
// run, and with VERBS set the runtime itself.
func TestMain(m *testing.M) {
	switch {
	case os.Args[0] == "/payload":
		payload(os.Args[1:])
	case os.Getenv("VERBS") != "":
		os.Unsetenv("VERBS")
		os.Setenv("VERBS_SHIELDED", "1")
		main()
	case os.Getenv("VERBS_SHIELDED") != "":
		main()
	default:
		os.Exit(m.Run())
	}
}

func payload(args []string) {
	switch args[0] {
	case "exit":
		os.Exit(len(args))
	case "sleep":
		fmt.Println("ready")
		time.Sleep(time.Minute)
	case "show":
		show(args[1:])
	case "cat":
		for _, name := range args[1:] {
			b, err := os.ReadFile(name)
			if err != nil {
				fmt.Println(err)
			}
			os.Stdout.Write(b)
		}
	case "hook":
		hook(args[1])
	case "hello":
		fmt.Println("hello from", os.Getpid())
		if f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); err == nil {
			fmt.Fprintln(f, "on a terminal")
		}
	}
	os.Exit(0)
}

type rig struct {
	t            *testing.T
	root, bundle string
	id           string
}

func newRig(t *testing.T, edit func(*specs.Spec)) *rig {
	t.Helper()
	need.Root(t)
	dir := t.TempDir()
	r := &rig{t, filepath.Join(dir, "state"), filepath.Join(dir, "bundle"), fmt.Sprintf("ladetest-%d-%d", os.Getpid(), time.Now().UnixNano())}
	rootfs := filepath.Join(r.bundle, "rootfs")
	for _, d := range []string{"proc", "sys", "dev", "tmp"} {
		if err := os.MkdirAll(filepath.Join(rootfs, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(rootfs, "payload"), b, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := r.command("spec", "--bundle", r.bundle).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if b, err = os.ReadFile(filepath.Join(r.bundle, "config.json")); err != nil {
		t.Fatal(err)
	}
	s, err := parseSpec(b)
	if err != nil {
		t.Fatal(err)
	}
	s.Process.Args, s.Process.Terminal = []string{"/payload", "sleep"}, false
	if edit != nil {
		edit(s)
	}
	if b, err = json.Marshal(s); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.bundle, "config.json"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.command("delete", "--force", r.id).Run() })
	return r
}

func (r *rig) command(args ...string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(exe, append([]string{"--root", r.root}, args...)...)
	cmd.Env = append(os.Environ(), "VERBS=1")
	return cmd
}

// do runs a verb that must succeed.
func (r *rig) do(args ...string) string {
	r.t.Helper()
	var out, errs bytes.Buffer
	cmd := r.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		r.t.Fatalf("%v: %v\n%s", args, err, errs.String())
	}
	return out.String()
}

// fails runs a verb that must fail and returns its exit code and message.
func (r *rig) fails(args ...string) (int, string) {
	r.t.Helper()
	out, err := r.command(args...).CombinedOutput()
	e, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		r.t.Errorf("%v: %v", args, err)
		return 0, ""
	}
	return e.ExitCode(), string(out)
}

func (r *rig) status() string {
	r.t.Helper()
	var s specs.State
	if err := json.Unmarshal([]byte(r.do("state", r.id)), &s); err != nil {
		r.t.Fatal(err)
	}
	return string(s.Status)
}

// create creates the container with its output in a file, as its process keeps
// the descriptors.
func (r *rig) create(args ...string) *os.File {
	r.t.Helper()
	out, err := os.CreateTemp(r.t.TempDir(), "out")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { out.Close() })
	cmd := r.command(append(append([]string{"create", "--bundle", r.bundle}, args...), r.id)...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		b, _ := os.ReadFile(out.Name())
		r.t.Fatalf("create: %v\n%s", err, b)
	}
	return out
}

func TestLifecycle(t *testing.T) {
	r := newRig(t, func(s *specs.Spec) { s.Annotations = map[string]string{"a": "b"} })
	pidFile := filepath.Join(t.TempDir(), "pid")
	out := r.create("--pid-file", pidFile)
	if got := r.status(); got != "created" {
		t.Errorf("status %q", got)
	}
	if b, err := os.ReadFile(pidFile); err != nil || len(b) == 0 || !strings.Contains(r.do("state", r.id), `"pid": `+string(b)) {
		t.Errorf("pid file %q, %v", b, err)
	}
	if _, msg := r.fails("create", "--bundle", r.bundle, r.id); !strings.Contains(msg, "container with given ID already exists") {
		t.Error(msg)
	}
	r.do("start", r.id)
	if got := r.status(); got != "running" {
		t.Errorf("status %q", got)
	}
	need.Eventually(t, "output", func() bool { b, _ := os.ReadFile(out.Name()); return string(b) == "ready\n" })
	if _, msg := r.fails("start", r.id); !strings.Contains(msg, "cannot start an already running container") {
		t.Error(msg)
	}
	if got := r.do("exec", r.id, "/payload", "hello"); !strings.HasPrefix(got, "hello from ") {
		t.Errorf("%q", got)
	}
	if code, _ := r.fails("exec", r.id, "/payload", "exit", "x"); code != 2 {
		t.Errorf("exit code %d", code)
	}
	if code, msg := r.fails("exec", r.id, "nosuch"); code != 255 || !strings.Contains(msg, "executable file not found in $PATH") {
		t.Errorf("%d %s", code, msg)
	}
	r.do("pause", r.id)
	if got := r.status(); got != "paused" {
		t.Errorf("status %q", got)
	}
	r.do("resume", r.id)
	r.do("update", "--pids-limit", "50", r.id)
	if got := r.do("list", "-q"); strings.TrimSpace(got) != r.id {
		t.Errorf("list: %q", got)
	}
	if got := r.do("ps", "--format", "json", r.id); !strings.HasPrefix(got, "[") {
		t.Errorf("ps: %q", got)
	}
	if _, msg := r.fails("delete", r.id); !strings.Contains(msg, "is not stopped") {
		t.Error(msg)
	}
	r.do("kill", r.id, "KILL")
	need.Eventually(t, "stopped", func() bool { return r.status() == "stopped" })
	r.do("delete", r.id)
	if _, msg := r.fails("state", r.id); !strings.Contains(msg, "container does not exist") {
		t.Error(msg)
	}
	if _, err := os.Stat("/sys/fs/cgroup/pids/" + r.id); err == nil {
		t.Error("the control group is left behind")
	}
}

func TestRunVerb(t *testing.T) {
	r := newRig(t, func(s *specs.Spec) { s.Process.Args = []string{"/payload", "exit", "a", "b"} })
	if code, msg := r.fails("run", "--bundle", r.bundle, r.id); code != 3 {
		t.Errorf("exit code %d %s", code, msg)
	}
	r = newRig(t, func(s *specs.Spec) { s.Process.Args = []string{"/payload", "hello"} })
	if got := r.do("run", "--bundle", r.bundle, r.id); got != "hello from 1\n" {
		t.Errorf("%q", got)
	}
	if left, err := os.ReadDir(r.root); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestFailedCreate(t *testing.T) {
	r := newRig(t, func(s *specs.Spec) { s.Process.Args = []string{"nosuch"} })
	log := filepath.Join(t.TempDir(), "log")
	if code, _ := r.fails("--log", log, "--log-format", "json", "create", "--bundle", r.bundle, r.id); code != 1 {
		t.Errorf("exit code %d", code)
	}
	b, err := os.ReadFile(log)
	if err != nil || !strings.Contains(string(b), `"level":"error","msg":"exec: \"nosuch\": executable file not found in $PATH"`) {
		t.Errorf("%s %v", b, err)
	}
	if left, err := os.ReadDir(r.root); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestHooks(t *testing.T) {
	dir := t.TempDir()
	hook := func(name string) []specs.Hook {
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat > " + filepath.Join(dir, name)}}}
	}
	r := newRig(t, func(s *specs.Spec) {
		s.Hooks = &specs.Hooks{CreateRuntime: hook("createRuntime"), Poststart: hook("poststart"), Poststop: hook("poststop")}
	})
	r.create()
	r.do("start", r.id)
	r.do("delete", "--force", r.id)
	for name, status := range map[string]string{"createRuntime": "creating", "poststart": "running", "poststop": "stopped"} {
		var s specs.State
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = json.Unmarshal(b, &s)
		}
		if err != nil || s.ID != r.id || string(s.Status) != status {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

func TestConsole(t *testing.T) {
	r := newRig(t, func(s *specs.Spec) { s.Process.Args, s.Process.Terminal = []string{"/payload", "hello"}, true })
	socket := filepath.Join(t.TempDir(), "s")
	l, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l)
	if err := unix.Bind(l, &unix.SockaddrUnix{Name: socket}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(l, 1); err != nil {
		t.Fatal(err)
	}
	got := make(chan int, 1)
	go func() {
		fd := -1
		defer func() { got <- fd }()
		c, _, err := unix.Accept(l)
		if err != nil {
			return
		}
		defer unix.Close(c)
		b, oob := make([]byte, 100), make([]byte, 100)
		_, n, _, _, err := unix.Recvmsg(c, b, oob, unix.MSG_CMSG_CLOEXEC)
		if err != nil {
			return
		}
		m, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil || len(m) != 1 {
			return
		}
		if fds, err := unix.ParseUnixRights(&m[0]); err == nil && len(fds) == 1 {
			fd = fds[0]
		}
	}()
	r.create("--console-socket", socket)
	fd := <-got
	if fd < 0 {
		t.Fatal("no terminal received")
	}
	master := os.NewFile(uintptr(fd), "terminal")
	defer master.Close()
	r.do("start", r.id)
	var out bytes.Buffer
	_, _ = out.ReadFrom(master) // ends with EIO
	if got := out.String(); got != "hello from 1\r\non a terminal\r\n" {
		t.Errorf("%q", got)
	}
}

// TestShield keeps hold of the runtime's executable, as a container could, and
// tries to write to it when it is not in use any more.
func TestShield(t *testing.T) {
	r := newRig(t, func(s *specs.Spec) { s.Process.Args = []string{"/payload", "sleep"} })
	// A file of its own: this test itself is in use.
	own := filepath.Join(t.TempDir(), "runtime")
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own, b, 0o755); err != nil {
		t.Fatal(err)
	}
	r.create()
	r.do("start", r.id)
	cmd := r.command("exec", r.id, "/payload", "sleep")
	cmd.Path = own
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 10)); err != nil {
		t.Error(err)
	}
	exe, err := unix.Open(fmt.Sprintf("/proc/%d/exe", cmd.Process.Pid), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(exe)
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
	if err != nil || string(comm) != "runtime\n" {
		t.Errorf("comm %q, %v", comm, err)
	}
	r.do("kill", r.id, "KILL")
	if err := cmd.Wait(); err == nil || err.Error() != "exit status 137" {
		t.Error(err)
	}
	if f, err := os.OpenFile(sys.FDPath(exe), os.O_WRONLY, 0); !errors.Is(err, unix.EROFS) {
		t.Errorf("open for writing: %v", err)
		if err == nil {
			f.Close()
		}
	}
	if f, err := os.OpenFile(own, os.O_WRONLY, 0); err != nil {
		t.Errorf("the file itself: %v", err)
	} else {
		f.Close()
	}
}
