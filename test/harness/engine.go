package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lade/internal/linux/netns"
	"lade/internal/linux/proc"
	"lade/internal/need"
)

// patience is how long a daemon may take to start or to stop.
func patience() time.Duration { return need.Patience(30 * time.Second) }

var serial atomic.Int32

// Engine is a running daemon.
type Engine struct {
	t      testing.TB
	Dir    string // data root, exec root, socket, log
	Socket string
	Bridge string
	Bin    string // directory of the binaries
	env    []string
	flags  []string
	netns  *os.File // nil: the network namespace of the test
	cmd    *exec.Cmd
	exited chan error
	before world
}

// Bin returns the directory of the binaries under test: bin/ of the
// repository, or $LADE_BIN.
func Bin(t testing.TB) string {
	t.Helper()
	bin := os.Getenv("LADE_BIN")
	if bin == "" {
		dir, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for ; ; dir = filepath.Dir(dir) {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				bin = filepath.Join(dir, "bin")
				break
			}
			if dir == "/" {
				t.Fatal("no go.mod above the test")
			}
		}
	}
	need.File(t, filepath.Join(bin, "laded"), "the binaries, made by `make all`")
	return bin
}

// Start starts an engine with further flags of laded. It is stopped, and
// everything that it left behind is an error, when the test ends.
func Start(t testing.TB, flags ...string) *Engine {
	t.Helper()
	return StartFrom(t, Bin(t), nil, flags...)
}

// StartFrom is Start with the binaries of a directory, and further variables in
// the environment of laded.
func StartFrom(t testing.TB, bin string, env []string, flags ...string) *Engine {
	t.Helper()
	return start(t, nil, bin, env, flags)
}

// StartIn is Start in a network namespace, which stands for a host. It stays the
// caller's, who closes it after the test's end.
func StartIn(t testing.TB, ns *os.File, flags ...string) *Engine {
	t.Helper()
	return start(t, ns, Bin(t), nil, flags)
}

func start(t testing.TB, ns *os.File, bin string, env, flags []string) *Engine {
	t.Helper()
	need.Root(t)
	n := serial.Add(1)
	dir, err := os.MkdirTemp("", "lade-test-")
	if err == nil {
		err = os.Chmod(dir, 0o711) // as /run is: other runtimes pass there as the root of a user namespace
	}
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{
		t: t, Dir: dir, Socket: filepath.Join(dir, "lade.sock"), Bin: bin, env: env, flags: flags, netns: ns,
		Bridge: fmt.Sprintf("lt%d-%d", os.Getpid()%1000000, n),
	}
	e.before = look(e)
	t.Cleanup(e.finish)
	e.Launch()
	return e
}

// Group is the parent of the engine's control groups.
func (e *Engine) Group() string { return "lade-test-" + e.Bridge }

// Launch starts the daemon, and returns when it says that it is ready.
func (e *Engine) Launch() {
	e.t.Helper()
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(e.Dir, "notify"), Net: "unixgram"})
	if err != nil {
		e.t.Fatal(err)
	}
	defer os.Remove(filepath.Join(e.Dir, "notify"))
	defer notify.Close()
	cmd := e.spawn()
	e.cmd = cmd
	exited := make(chan error, 1)
	go func() {
		exited <- cmd.Wait()
		notify.SetReadDeadline(time.Unix(1, 0))
	}()
	e.exited = exited
	notify.SetReadDeadline(time.Now().Add(patience()))
	buf := make([]byte, 1024)
	for {
		n, err := notify.Read(buf)
		if err != nil {
			e.t.Fatalf("laded did not become ready: %v\n%s", err, e.Log())
		}
		if strings.Contains(string(buf[:n]), "READY=1") {
			return
		}
	}
}

// spawn starts the daemon's process.
func (e *Engine) spawn() *exec.Cmd {
	e.t.Helper()
	log, err := os.OpenFile(filepath.Join(e.Dir, "laded.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		e.t.Fatal(err)
	}
	defer log.Close()
	return e.spawnTo(log)
}

// spawnTo is spawn with another place for what the daemon writes.
func (e *Engine) spawnTo(log io.Writer) *exec.Cmd {
	e.t.Helper()
	config := filepath.Join(e.Dir, "daemon.json")
	if _, err := os.Stat(config); err != nil {
		if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
			e.t.Fatal(err)
		}
	}
	if os.Getenv("LADE_BENCH") == "" {
		e.flags = append(e.flags, "--debug")
	}
	args := append([]string{
		"--data-root", filepath.Join(e.Dir, "data"), "--exec-root", filepath.Join(e.Dir, "exec"), "--config-file", config,
		"--pidfile", filepath.Join(e.Dir, "pid"), "-H", "unix://" + e.Socket, "--bridge", e.Bridge, "--cgroup-parent", e.Group(),
	}, e.flags...)
	cmd := exec.Command(filepath.Join(e.Bin, "laded"), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = slices.Concat(os.Environ(), []string{"NOTIFY_SOCKET=" + filepath.Join(e.Dir, "notify")}, e.env)
	if err := e.in(cmd.Start); err != nil {
		e.t.Fatal(err)
	}
	return cmd
}

// in runs f in the engine's network namespace.
func (e *Engine) in(f func() error) error {
	if e.netns == nil {
		return f()
	}
	return netns.Do(e.netns, f)
}

// Flash starts the daemon and kills it after a while, ready or not.
func (e *Engine) Flash(after time.Duration) {
	e.t.Helper()
	cmd := e.spawn()
	time.Sleep(after)
	if err := cmd.Process.Kill(); err != nil {
		e.t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		e.t.Fatalf("laded ended by itself\n%s", e.Log())
	}
}

// Refused starts a daemon that is to end by itself with an error, and returns
// what it wrote.
func (e *Engine) Refused() string {
	e.t.Helper()
	var said bytes.Buffer
	cmd := e.spawnTo(&said)
	late := time.AfterFunc(patience(), func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	if !late.Stop() || err == nil {
		e.t.Fatalf("laded does not refuse: %v\n%s", err, said.String())
	}
	return said.String()
}

// Revive starts the daemon again if it has just ended, or is about to.
func (e *Engine) Revive() {
	e.t.Helper()
	select {
	case <-e.exited:
		e.Launch()
	case <-time.After(200 * time.Millisecond):
	}
}

// Pid returns the daemon's process id.
func (e *Engine) Pid() int { return e.cmd.Process.Pid }

// Supervisor returns the process id of the engine's supervisor, or 0. A process
// that it is starting looks like it until execve(2), so the oldest counts.
func (e *Engine) Supervisor() int {
	pid, began := 0, time.Duration(0)
	for _, p := range processes(e) {
		if filepath.Base(strings.Fields(p.command + " ?")[0]) != "lade-supervisor" {
			continue
		}
		if s, err := proc.Read(p.pid); err == nil && (pid == 0 || s.Start < began) {
			pid, began = p.pid, s.Start
		}
	}
	return pid
}

// Kill ends the daemon without notice.
func (e *Engine) Kill() {
	e.t.Helper()
	if err := e.cmd.Process.Kill(); err != nil {
		e.t.Fatal(err)
	}
	e.wait()
}

// Stop ends the daemon in order.
func (e *Engine) Stop() {
	e.t.Helper()
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		e.t.Fatalf("laded: %v\n%s", err, e.Log())
	}
	if err := e.wait(); err != nil {
		e.t.Errorf("laded: %v\n%s", err, e.Log())
	}
}

func (e *Engine) wait() error {
	e.t.Helper()
	select {
	case err := <-e.exited:
		e.cmd = nil
		return err
	case <-time.After(patience()):
		e.t.Fatalf("laded does not end\n%s", e.Log())
		return nil
	}
}

// Check runs `laded check`; the daemon must not run. An error comes with what
// it printed.
func (e *Engine) Check() (string, error) {
	out, err := exec.Command(filepath.Join(e.Bin, "laded"), "check", "--deep", "--data-root", filepath.Join(e.Dir, "data"),
		"--exec-root", filepath.Join(e.Dir, "exec"), "--config-file", filepath.Join(e.Dir, "daemon.json")).CombinedOutput()
	return string(out), err
}

// Running reports whether the daemon was started and not stopped.
func (e *Engine) Running() bool { return e.cmd != nil }

// Log returns what the daemon, the supervisor and the gate wrote.
func (e *Engine) Log() string {
	var out strings.Builder
	for _, name := range []string{"laded.log", "exec/supervisor.log", "exec/gate.log"} {
		raw, err := os.ReadFile(filepath.Join(e.Dir, name))
		if err == nil {
			fmt.Fprintf(&out, "--- %s\n%s", name, raw)
		}
	}
	return out.String()
}

// Command returns a client's command line ("lade" or "docker") against the
// engine.
func (e *Engine) Command(client string, args ...string) *exec.Cmd {
	path := client
	if client == "lade" {
		path = filepath.Join(e.Bin, "lade")
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+e.Socket, "LADE_HOST=unix://"+e.Socket, "LADE_AUTOSTART=0",
		"DOCKER_CONFIG="+filepath.Join(e.Dir, "client"))
	return cmd
}

// Run runs lade with arguments and returns its standard output; failure ends
// the test.
func (e *Engine) Run(args ...string) string {
	e.t.Helper()
	out, stderr, code := e.Try(args...)
	if code != 0 {
		e.t.Fatalf("lade %s: exit code %d\n%s%s\n%s", strings.Join(args, " "), code, out, stderr, e.Log())
	}
	return strings.TrimSuffix(out, "\n")
}

// Try runs lade with arguments.
func (e *Engine) Try(args ...string) (stdout, stderr string, code int) {
	e.t.Helper()
	cmd := e.Command("lade", args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if ee, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.String(), errOut.String(), ee.ExitCode()
	}
	if err != nil {
		e.t.Fatal(err)
	}
	return out.String(), errOut.String(), 0
}

// finish removes what the test made, stops the engine and looks for leftovers.
func (e *Engine) finish() {
	if !e.Running() && !e.t.Failed() {
		e.Launch()
	}
	if e.Running() {
		if ids, _, code := e.Try("ps", "-aq", "--no-trunc"); code == 0 {
			for id := range strings.FieldsSeq(ids) {
				e.Try("rm", "-f", "-v", id)
			}
		}
		e.Stop()
	}
	e.reap()
	if faults, err := e.Check(); err != nil {
		e.t.Errorf("laded check: %v\n%s", err, faults)
	}
	// The kernel takes a network namespace and its links down in the background.
	left := look(e).minus(e.before)
	for end := time.Now().Add(patience()); len(left) > 0 && time.Now().Before(end); left = look(e).minus(e.before) {
		time.Sleep(50 * time.Millisecond)
	}
	if len(left) > 0 {
		e.t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
	if e.t.Failed() {
		e.t.Logf("%s", e.Log())
	}
	if err := os.RemoveAll(e.Dir); err != nil {
		e.t.Errorf("files: %v", err)
	}
}

// reap waits for the supervisor, which ends by itself when nothing runs.
func (e *Engine) reap() {
	pid := e.Supervisor()
	if pid == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	defer cancel()
	if err := awaitExit(ctx, pid); err != nil {
		e.t.Errorf("supervisor %d: %v", pid, err)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			e.t.Logf("supervisor %s: %v", strconv.Itoa(pid), err)
		}
	}
}
