package escape

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/need"
	"lade/test/harness"
)

// bounded is how long any one attack may take.
const bounded = 30 * time.Second

// world is an engine with an image, and the attacker's program.
type world struct {
	*harness.Engine
	t       *testing.T
	payload string // on the host
	dir     string // of the test, on the host
}

func newWorld(t *testing.T) *world {
	t.Helper()
	need.Root(t)
	e := harness.Start(t)
	e.Import()
	w := &world{Engine: e, t: t, dir: t.TempDir()}
	w.payload = build(t, w.dir, "")
	return w
}

// build compiles the attacker's program; goarch "" is the machine's.
func build(t *testing.T, dir, goarch string) string {
	t.Helper()
	need.Program(t, "go", "the Go distribution")
	path := filepath.Join(dir, "payload"+goarch)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "lade/test/escape/payload")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if goarch != "" {
		cmd.Env = append(cmd.Env, "GOARCH="+goarch)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// options are for `lade run` or `lade create`.
type options = []string

// attack runs the payload in a container that is removed afterwards, and returns
// what it says.
func (w *world) attack(o options, args ...string) string {
	w.t.Helper()
	out, stderr, _ := w.Try(w.command("run", append(options{"--rm"}, o...), args)...)
	return out + stderr
}

func (w *world) command(verb string, o options, args []string) []string {
	all := append(options{verb, "-v", w.payload + ":/payload:ro"}, o...)
	return append(append(all, harness.Image, "/payload"), args...)
}

// inside runs the payload in a running container.
func (w *world) inside(container string, o options, args ...string) string {
	w.t.Helper()
	out, stderr, _ := w.Try(append(append(append(options{"exec"}, o...), container, "/payload"), args...)...)
	return out + stderr
}

// spawn starts a container with the payload and waits until it is ready.
func (w *world) spawn(name string, o options, args ...string) {
	w.t.Helper()
	w.Run(w.command("run", append(options{"-d", "--name", name}, o...), args)...)
	w.ready(name)
}

func (w *world) ready(name string) {
	w.t.Helper()
	w.await(name, "ready")
}

// await waits for a line in a container's output.
func (w *world) await(name, line string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), need.Patience(bounded))
	defer cancel()
	cmd := w.Command("lade", "logs", "-f", name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer func() {
		stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	var all strings.Builder
	for s := bufio.NewScanner(out); s.Scan(); {
		all.WriteString(s.Text() + "\n")
		if strings.HasPrefix(s.Text(), line) {
			return all.String()
		}
	}
	w.t.Fatalf("%s never said %q:\n%s", name, line, all.String())
	return ""
}

// end waits for a container to end by itself, and returns what it said.
func (w *world) end(name string) string {
	w.t.Helper()
	w.Run("wait", name)
	out, stderr, _ := w.Try("logs", name)
	w.Run("rm", "-f", name)
	return out + stderr
}

// control runs the payload on the host, in mount and process namespaces of its
// own: a naive runtime, which must fall for the attack.
func (w *world) control(args ...string) string {
	w.t.Helper()
	return control(w.t, w.payload, args...)
}

func control(t *testing.T, payload string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), payload, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("control %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// background runs the payload on the host until the returned function is called.
func background(t *testing.T, payload string, args ...string) (stop func()) {
	t.Helper()
	cmd := exec.Command(payload, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%v: %q, %v", args, line, err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// withstood fails the test when an attack succeeded, or did nothing at all.
func withstood(t *testing.T, what, out string) {
	t.Helper()
	if strings.Contains(out, "escaped:") || !strings.Contains(out, "held:") {
		t.Errorf("%s:\n%s", what, out)
	}
}

// succeeded fails the test when the control withstood the attack: then it shows
// nothing.
func succeeded(t *testing.T, what, out string) {
	t.Helper()
	if !strings.Contains(out, "escaped:") {
		t.Errorf("the attack is not real: %s:\n%s", what, out)
	}
}

// untouched fails the test when a directory of the host is not empty.
func untouched(t *testing.T, dir string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil || len(list) > 0 {
		t.Errorf("%s has %v, %v", dir, list, err)
	}
}

// mkdir makes a directory of the test on the host.
func (w *world) mkdir(name string) string {
	w.t.Helper()
	p := filepath.Join(w.dir, name)
	if err := os.MkdirAll(p, 0o755); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// file makes a file of the test on the host.
func (w *world) file(name, content string, mode os.FileMode) string {
	w.t.Helper()
	w.mkdir(filepath.Dir(name))
	p := filepath.Join(w.dir, name)
	if err := os.WriteFile(p, []byte(content), mode); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// rootfs unpacks the image into a directory of the host, with the payload in it.
func (w *world) rootfs(name string) string {
	w.t.Helper()
	return unpack(w.t, w.mkdir(name), w.Rootfs(), w.payload)
}

func unpack(t *testing.T, root string, image []byte, payload string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "tar", "-C", root, "-x")
	cmd.Stdin = bytes.NewReader(image)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	in, err := os.Open(payload)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(root, "payload"), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	return root
}

// races is how many starts race against an attacker.
const races = 25

// attempts says how often a container was started, for the reader of a failure.
func attempts(n int) string { return strconv.Itoa(n) + " starts" }
