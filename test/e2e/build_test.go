package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lade/internal/need"
	"lade/test/harness"
)

// TestBuild runs testdata/build/*.txt with docker's classic build and with lade's.
func TestBuild(t *testing.T) {
	need.Root(t)
	dir := filepath.Join("testdata", "build")
	t.Run("docker", func(t *testing.T) { scripts(t, dir, "docker", "own") })
	t.Run("lade", func(t *testing.T) { scripts(t, dir, "lade", "own") })
}

// TestBuildKilled kills the builder, the daemon, the client, and builder and daemon
// together in the middle of a step. The step goes with each of them, at the latest
// when the daemon is there again, and the next build works; what else could be left
// the harness looks for.
func TestBuildKilled(t *testing.T) {
	need.Root(t)
	e := harness.Start(t)
	slow := filepath.Join(t.TempDir(), "Dockerfile")
	if err := os.WriteFile(slow, []byte("FROM lade/hello\nRUN echo begun; sleep 1000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	builder := func() int {
		t.Helper()
		pid := 0
		await(t, "the builder is there", func() bool {
			pid = builderOf(e)
			return pid != 0
		})
		return pid
	}
	groups := func() []string {
		var all []string
		for _, pattern := range []string{"/sys/fs/cgroup/*/", "/sys/fs/cgroup/"} {
			found, err := filepath.Glob(pattern + e.Group() + "/build-*/buildkit/*/cgroup.procs")
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, found...)
		}
		return all
	}
	for _, x := range []struct {
		name string
		kill func(client *exec.Cmd)
	}{
		{"client", func(c *exec.Cmd) { killPid(t, c.Process.Pid) }},
		{"builder", func(*exec.Cmd) { killPid(t, builder()) }},
		{"daemon", func(*exec.Cmd) { e.Kill(); e.Launch() }},
		{"both", func(*exec.Cmd) {
			pid := builder()
			e.Kill()
			_ = syscall.Kill(pid, syscall.SIGKILL) // unless it has gone with the daemon
			e.Launch()
		}},
	} {
		var out need.Buffer
		c := e.Command("lade", "build", "--progress", "plain", "-f", slow, filepath.Dir(slow))
		c.Stdout, c.Stderr = &out, &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		await(t, "the step has begun", func() bool { return strings.Contains(out.String(), " begun\n") })
		if len(groups()) == 0 {
			t.Fatalf("%s: the step has no control group", x.name)
		}
		x.kill(c)
		if err := c.Wait(); err == nil {
			t.Errorf("%s: the build has succeeded", x.name)
		}
		await(t, "the step of a killed "+x.name+" has gone", func() bool { return len(groups()) == 0 })
	}
	after := e.Command("lade", "build", "-q", "-t", "after", "-")
	after.Stdin = strings.NewReader("FROM lade/hello\nRUN true\n")
	if out, err := after.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func killPid(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// builderOf returns the process of an engine's lade-build, 0 if there is none.
func builderOf(e *harness.Engine) int {
	tasks, err := filepath.Glob("/proc/" + strconv.Itoa(e.Pid()) + "/task/*/children")
	if err != nil {
		return 0
	}
	for _, task := range tasks {
		raw, err := os.ReadFile(task)
		if err != nil {
			continue
		}
		for pid := range strings.FieldsSeq(string(raw)) {
			name, err := os.ReadFile("/proc/" + pid + "/comm")
			if err != nil || string(name) != "lade-build\n" {
				continue
			}
			n, err := strconv.Atoi(pid)
			if err == nil {
				return n
			}
		}
	}
	return 0
}

// await waits until something is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(need.Patience(30 * time.Second)); !so(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not so: %s", what)
		}
	}
}
