package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lade/internal/need"
)

// engine is somebody else's, with lade-runtime as its runtime, and with its
// state and control groups apart from those of the machine.
type engine struct {
	t       *testing.T
	dir     string
	command []string // its client
	run     []string // flags of run
	env     []string
}

// do runs the client and returns what it prints and its exit code.
func (e *engine) do(args ...string) (string, int) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), need.Patience(time.Minute))
	defer cancel()
	all := append(append([]string{}, e.command...), args...)
	cmd := exec.CommandContext(ctx, all[0], all[1:]...)
	cmd.Env = append(os.Environ(), e.env...)
	out, err := cmd.CombinedOutput()
	if ee, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(out), ee.ExitCode()
	}
	if err != nil {
		e.t.Fatalf("%v: %v", all, err)
	}
	return string(out), 0
}

// want runs the client, which must end with a code and print something that
// contains a text.
func (e *engine) want(code int, text string, args ...string) {
	e.t.Helper()
	if out, got := e.do(args...); got != code || !strings.Contains(out, text) {
		e.t.Errorf("%s: exit code %d, want %d, and %q in\n%s", strings.Join(args, " "), got, code, text, out)
	}
}

// running is run with the engine's flags.
func (e *engine) running(args ...string) []string {
	return append(append([]string{"run"}, e.run...), args...)
}

// containers is what every engine with Docker's commands must do.
func (e *engine) containers() {
	e.t.Helper()
	e.want(0, "hello", e.running("--rm", "box", "echo", "hello")...)
	e.want(7, "", e.running("--rm", "box", "sh", "-c", "exit 7")...)
	e.want(127, "no such file", e.running("--rm", "box", "/nosuch")...)
	e.want(0, "/dev/", e.running("--rm", "-t", "box", "tty")...)
	e.want(1, "Read-only", e.running("--rm", "--read-only", "box", "touch", "/x")...)
	e.want(0, "0000000000000000", e.running("--rm", "--cap-drop", "all", "box", "grep", "CapEff", "/proc/self/status")...)
	e.want(137, "", e.running("--name", "oom", "--memory", "16m", "--memory-swap", "16m", "box", "sh", "-c", "x=a; while :; do x=$x$x; done")...)
	// OOMKilled is false with runc too: neither shim nor conmon finds the control
	// groups of this version of the layout.
	e.want(0, "137", "inspect", "-f", "{{.State.ExitCode}}", "oom")
	e.want(0, "", "rm", "oom")
	e.want(0, "", e.running("-d", "--name", "long", "--pids-limit", "20", "box", "sleep", "1000")...)
	e.want(0, "uid=5 gid=6", "exec", "-u", "5:6", "long", "id")
	e.want(3, "b /tmp", "exec", "-e", "A=b", "-w", "/tmp", "long", "sh", "-c", "echo $A $PWD; exit 3")
	e.want(0, "sleep 1000", "top", "long")
	e.want(0, "", "pause", "long")
	e.want(0, "paused", "inspect", "-f", "{{.State.Status}}", "long")
	e.want(0, "", "unpause", "long")
	e.want(0, "", "kill", "long")
	e.want(0, "137", "wait", "long")
	e.want(0, "", "rm", "long")
}

// clean looks for what an engine has left.
func (e *engine) clean(group string) {
	raw, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(raw), e.dir) {
		e.t.Errorf("mounts are left: %v", err)
	}
	var dirs []string
	for _, below := range []string{"/conmon", ""} { // Podman puts its monitor there
		for _, at := range []string{"/sys/fs/cgroup/*/", "/sys/fs/cgroup/"} {
			found, _ := filepath.Glob(at + group + below)
			dirs = append(dirs, found...)
		}
	}
	for _, d := range dirs {
		if err := os.Remove(d); err != nil { // the engine itself does not remove the parent
			e.t.Error(err)
		}
	}
}

// daemon starts a server and ends it with the test.
func (e *engine) daemon(args ...string) {
	e.t.Helper()
	log, err := os.Create(filepath.Join(e.dir, "log"))
	if err != nil {
		e.t.Fatal(err)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, append(os.Environ(), e.env...)
	if err := cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		done := time.AfterFunc(need.Patience(20*time.Second), func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		done.Stop()
		log.Close()
		if raw, err := os.ReadFile(log.Name()); err == nil && e.t.Failed() {
			e.t.Logf("the server's log:\n%s", raw[max(0, len(raw)-4000):])
		}
	})
	until := time.Now().Add(need.Patience(20 * time.Second))
	for {
		if _, code := e.do("version"); code == 0 {
			return
		}
		if time.Now().After(until) {
			e.t.Fatalf("%s does not answer", args[0])
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestDocker runs containers with Debian's docker.io.
func TestDocker(t *testing.T) {
	full(t)
	dockerd := need.Program(t, "dockerd", "Debian's docker.io")
	ip := need.Program(t, "ip", "iproute2")
	dir := t.TempDir()
	socket := "unix://" + filepath.Join(dir, "s")
	group := fmt.Sprintf("lade-conf-%d", os.Getpid())
	e := &engine{
		t: t, dir: dir, command: []string{need.Program(t, "docker", "Debian's docker-cli")}, env: []string{"DOCKER_HOST=" + socket, "DOCKER_CONFIG=" + dir},
		run: []string{"--runtime", "lade", "--cgroup-parent", "/" + group},
	}
	t.Cleanup(func() { e.clean(group) })
	bridge := fmt.Sprintf("lc%d", os.Getpid())
	for _, args := range [][]string{{"link", "add", bridge, "type", "bridge"}, {"addr", "add", "10.249.92.1/24", "dev", bridge}, {"link", "set", bridge, "up"}} {
		if out, err := exec.Command(ip, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	t.Cleanup(func() { _ = exec.Command(ip, "link", "del", bridge).Run() })
	e.daemon(dockerd, "--data-root", dir+"/data", "--exec-root", dir+"/run", "--pidfile", dir+"/pid", "-H", socket, "--bridge", bridge,
		"--iptables=false", "--ip6tables=false", "--ip-masq=false", "--storage-driver", "vfs", "--add-runtime", "lade="+need.Binary(t, "lade-runtime"))
	e.want(0, "sha256:", "import", archive(t), "box")
	// The network is set up by a hook that enters the container's namespace.
	e.want(0, "eth0", e.running("--rm", "box", "ip", "addr", "show", "eth0")...)
	e.containers()
}

// TestPodman runs containers with Debian's Podman.
func TestPodman(t *testing.T) {
	full(t)
	dir := t.TempDir()
	group := fmt.Sprintf("lade-conf-%d", os.Getpid())
	e := &engine{
		t: t, dir: dir,
		command: []string{need.Program(t, "podman", "Debian's podman"), "--root", dir + "/root", "--runroot", dir + "/run", "--tmpdir", dir + "/tmp",
			"--cgroup-manager", "cgroupfs", "--storage-driver", "vfs", "--events-backend", "none", "--runtime", need.Binary(t, "lade-runtime")},
		// Its default limits are higher than what this process may set.
		run: []string{"--network", "none", "--cgroup-parent", "/" + group, "--ulimit", "nofile=512:512", "--ulimit", "nproc=512:512"},
	}
	t.Cleanup(func() {
		_ = syscall.Unmount(dir+"/root/vfs", syscall.MNT_DETACH) // Podman leaves it mounted
		e.clean(group)
	})
	e.want(0, "sha256:", "import", "-q", archive(t), "box")
	e.containers()
}

// TestContainerd runs containers with Debian's containerd and its shim.
func TestContainerd(t *testing.T) {
	full(t)
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	e := &engine{t: t, dir: dir, command: []string{need.Program(t, "ctr", "Debian's containerd"), "-a", socket}}
	group := fmt.Sprintf("lade-conf-%d", os.Getpid())
	t.Cleanup(func() { e.clean(group) })
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = %q\n", dir+"/root", dir+"/state", socket)
	if err := os.WriteFile(dir+"/config.toml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	e.daemon(need.Program(t, "containerd", "Debian's containerd"), "-c", dir+"/config.toml")
	e.want(0, "", "images", "import", "--snapshotter", "native", layout(t))
	e.run = []string{"--snapshotter", "native", "--runc-binary", need.Binary(t, "lade-runtime"), "--cgroup", "/" + group + "/x"}
	run := func(id string, command ...string) []string {
		return e.running(append([]string{"--rm", "docker.io/library/box:latest", id}, command...)...)
	}
	e.want(0, "hello", run("a", "echo", "hello")...)
	e.want(7, "", run("b", "sh", "-c", "exit 7")...)
	e.want(1, "no such file", run("c", "/nosuch")...)
	e.want(0, "", e.running("-d", "docker.io/library/box:latest", "long", "sleep", "1000")...)
	e.want(0, "RUNNING", "task", "ls")
	e.want(0, "uid=0", "task", "exec", "--exec-id", "e", "long", "id")
	e.want(4, "", "task", "exec", "--exec-id", "f", "long", "sh", "-c", "exit 4")
	e.want(0, "", "task", "pause", "long")
	e.want(0, "PAUSED", "task", "ls")
	e.want(0, "", "task", "resume", "long")
	e.want(0, "", "task", "kill", "-s", "KILL", "long")
	need.Eventually(e.t, "the killed task is STOPPED", func() bool {
		out, _ := e.do("task", "ls")
		return strings.Contains(out, "STOPPED")
	})
	e.want(0, "", "task", "rm", "long")
	e.want(0, "", "containers", "rm", "long")
}

// archive writes the root file system as a tar archive.
func archive(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "root.tar.gz")
	rootfs(t, file)
	return file
}

// layout writes the image box as an archive of an OCI image layout.
func layout(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "box.tar")
	if err := os.WriteFile(file, image(t, archive(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
