package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"lade/internal/linux/systemd"
	"lade/internal/need"
	"lade/test/harness"
)

// scopes is an engine whose control groups are units of systemd.
type scopes struct {
	*harness.Engine
	t *testing.T
}

// TestSystemd runs containers in scopes: systemd knows their limits and their
// ends, and a reload of it changes nothing.
func TestSystemd(t *testing.T) {
	need.Root(t)
	if !systemd.Running() {
		t.Skip("systemd is not the service manager here")
	}
	e := harness.Start(t, "--exec-opt", "native.cgroupdriver=systemd", "--cgroup-parent", "ladetest-e2e.slice", "--add-runtime", "itself="+filepath.Join(harness.Bin(t), "lade-runtime"))
	e.Import()
	s := scopes{e, t}
	if driver := e.Run("info", "--format", "{{.CgroupDriver}}"); driver != "systemd" {
		t.Errorf("info says %s", driver)
	}
	t.Run("limits", func(t *testing.T) { scopes{e, t}.limits() })
	t.Run("runtimes", func(t *testing.T) { scopes{e, t}.runtimes() })
	t.Run("failed", func(t *testing.T) { scopes{e, t}.failed() })
	t.Run("parent", func(t *testing.T) { scopes{e, t}.parent() })
	t.Run("killed", func(t *testing.T) { scopes{e, t}.killed() })
	s.gone("anything")
}

func (s scopes) id(container string) string {
	s.t.Helper()
	return s.Run("inspect", "--format", "{{.Id}}", container)
}

// show is a property of a container's unit.
func (s scopes) show(id, property string) string {
	s.t.Helper()
	out, err := exec.Command("systemctl", "show", "--value", "-p", property, "lade-"+id+".scope").CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// group is the directory of a container's control group in the hierarchy that
// systemd uses.
func (s scopes) group(slice, id string) string {
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/unified"); err == nil {
		root += "/unified"
	}
	return filepath.Join(root, slice, "lade-"+id+".scope")
}

// gone waits until neither unit nor group of a container is there.
func (s scopes) gone(id string) {
	s.t.Helper()
	unified{s.Engine, s.t, nil}.soon(func() error {
		left, err := filepath.Glob("/sys/fs/cgroup/*/*/lade-" + id + ".scope")
		if state := s.show(id, "ActiveState"); state != "inactive" || len(left) > 0 || err != nil {
			return fmt.Errorf("the unit is %s, groups %v, %w", state, left, err)
		}
		return nil
	})
}

const slice = "ladetest.slice/ladetest-e2e.slice"

func (s scopes) limits() {
	s.Run("run", "-d", "--name", "box", "-m", "64m", "--cpus", "0.5", "--pids-limit", "20", "--cpuset-cpus", "0", harness.Image, "sleep", "1000")
	id := s.id("box")
	raw, err := os.ReadFile("/proc/" + s.Run("inspect", "--format", "{{.State.Pid}}", "box") + "/cgroup")
	if err != nil || !strings.Contains(string(raw), ":/"+slice+"/lade-"+id+".scope\n") {
		s.t.Errorf("control groups of box: %s, %v", raw, err)
	}
	procs, err := os.ReadFile(filepath.Join(s.group(slice, id), "cgroup.procs"))
	if len(strings.Fields(string(procs))) != 1 || err != nil {
		s.t.Errorf("processes %q, want the container's alone; %v", procs, err)
	}
	isV2 := false
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		isV2 = true
	}
	memory := "MemoryLimit"
	if isV2 {
		memory = "MemoryMax"
	}
	want := func(when string, limits map[string]string) {
		s.t.Helper()
		for property, value := range limits {
			if got := s.show(id, property); got != value {
				s.t.Errorf("%s: %s is %s, want %s", when, property, got, value)
			}
		}
	}
	want("started", map[string]string{"ActiveState": "active", memory: "67108864", "CPUQuotaPerSecUSec": "500ms", "TasksMax": "20", "Slice": "ladetest-e2e.slice"})
	if isV2 {
		want("started", map[string]string{"AllowedCPUs": "0", "Delegate": "yes"})
	}
	s.Run("update", "-m", "32m", "--memory-swap", "32m", "--pids-limit", "30", "box")
	want("updated", map[string]string{memory: "33554432", "TasksMax": "30"})
	if out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	want("reloaded", map[string]string{memory: "33554432", "TasksMax": "30"})
	if got := s.Run("stats", "--no-stream", "--format", "{{.MemUsage}}", "box"); !strings.HasSuffix(got, "/ 32MiB") {
		s.t.Errorf("after a reload stats say %s", got)
	}
	// The rules for devices hold after it too.
	if _, stderr, code := s.Try("exec", "box", "sh", "-c", "mknod /tmp/fuse c 10 229 && : < /tmp/fuse"); code == 0 || !strings.Contains(strings.ToLower(stderr), "not permitted") {
		s.t.Errorf("a device of the host: %d %s", code, stderr)
	}
	s.Run("pause", "box")
	s.Run("unpause", "box")
	s.Run("rm", "-f", "box")
	s.gone(id)

	_, _, code := s.Try("run", "--name", "big", "-m", "16m", "--memory-swap", "16m", "lade/hello", "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1")
	if got := s.Run("inspect", "--format", "{{.State.OOMKilled}}", "big"); code != 137 || got != "true" {
		s.t.Errorf("out of memory: exit code %d, OOMKilled %s", code, got)
	}
	s.gone(s.id("big"))
}

// runtimes: what a scope is limited to holds whichever runtime has started what is
// in it, also after systemd has written all of it anew.
func (s scopes) runtimes() {
	runtimes := []string{"lade", "itself"}
	for _, name := range []string{"runc", "crun"} {
		if _, err := exec.LookPath(name); err != nil {
			s.t.Logf("without %s", name)
			continue
		}
		if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil && name == "crun" {
			continue // it refuses hybrid control groups
		}
		runtimes = append(runtimes, name)
	}
	for _, runtime := range runtimes {
		s.Run("run", "-d", "--name", runtime, "--runtime", runtime, "-m", "16m", "--memory-swap", "16m", "--cpus", "0.3", "--pids-limit", "8",
			harness.Image, "sh", "-c", "while :; do sleep 1; done") // it waits for orphans
		g := groups{s.Engine, s.t, false}
		holds := func(when string) {
			s.t.Helper()
			if out, stderr, code := s.Try("exec", runtime, "sh", "-c", `trap 'kill $p' EXIT; for i in 1 2 3 4 5 6 7 8; do sleep 100 & p="$p $!"; done`); code == 0 || !strings.Contains(stderr, "temporarily unavailable") {
				s.t.Errorf("%s, %s: eight processes more: %d %q %q", runtime, when, code, out, stderr)
			}
			g.soon(func() error {
				if n := g.stats(runtime).PidsStats.Current; n > 2 {
					return fmt.Errorf("%s: there are still %d processes", runtime, n)
				}
				return nil
			})
			if _, stderr, code := s.Try("exec", runtime, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"); code != 137 {
				s.t.Errorf("%s, %s: 64 MB in 16: %d %s", runtime, when, code, stderr)
			}
			if _, stderr, code := s.Try("exec", runtime, "sh", "-c", "mknod /tmp/$$ c 10 229 && : < /tmp/$$"); code == 0 || !strings.Contains(strings.ToLower(stderr), "not permitted") {
				s.t.Errorf("%s, %s: a device of the host: %d %s", runtime, when, code, stderr)
			}
		}
		holds("at first")
		for _, how := range []string{"daemon-reload", "daemon-reexec"} {
			if out, err := exec.Command("systemctl", how).CombinedOutput(); err != nil {
				s.t.Fatalf("systemctl %s: %v: %s", how, err, out)
			}
		}
		holds("after a reload and a restart of systemd")
		s.Run("exec", "-d", runtime, "sh", "-c", "while :; do :; done")
		g.soon(func() error {
			if d := g.stats(runtime).CPUStats.ThrottlingData; d.ThrottledPeriods == 0 {
				return fmt.Errorf("%s: never throttled: %+v", runtime, d)
			}
			return nil
		})
		id := s.id(runtime)
		s.Run("stop", "-t", "0", runtime)
		s.gone(id)
		s.Run("start", runtime)
		if state := s.show(id, "ActiveState"); state != "active" {
			s.t.Errorf("%s: started again the unit is %s", runtime, state)
		}
		s.Run("rm", "-f", runtime)
		s.gone(id)
	}
}

// failed: of a start that fails nothing stays, and the next one works.
func (s scopes) failed() {
	s.Run("create", "--name", "bad", "lade/hello", "/nosuch")
	id := s.id("bad")
	for range 2 {
		if _, stderr, code := s.Try("start", "bad"); code == 0 || !strings.Contains(stderr, "no such file or directory") {
			s.t.Errorf("start of what cannot start, exit code and words: %d %s", code, stderr)
		}
		s.gone(id)
	}
}

func (s scopes) parent() {
	_, stderr, code := s.Try("run", "--rm", "--cgroup-parent", "/x", "lade/hello", "true")
	if want := `cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"`; code != 125 || !strings.Contains(stderr, want) {
		s.t.Errorf("a cgroup-parent that is no slice, exit code and words: %d %s", code, stderr)
	}
	out := s.Run("run", "--rm", "--cgroupns", "host", "--cgroup-parent", "ladetest-a-b.slice", "lade/hello", "cat", "/proc/self/cgroup")
	if !strings.Contains(out, ":/ladetest.slice/ladetest-a.slice/ladetest-a-b.slice/lade-") {
		s.t.Errorf("in %s", out)
	}
}

// killed ends daemon and supervisor without notice.
func (s scopes) killed() {
	s.Run("run", "-d", "--name", "kept", "-m", "64m", "lade/hello", "sleep", "1000")
	id, pid := s.id("kept"), s.Run("inspect", "--format", "{{.State.Pid}}", "kept")
	s.Kill()
	if err := syscall.Kill(s.Supervisor(), syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	s.Launch()
	if got := s.Run("inspect", "--format", "{{.State.Running}} {{.State.Pid}}", "kept"); got != "true "+pid {
		s.t.Errorf("%s, want true %s", got, pid)
	}
	s.Run("update", "-m", "32m", "--memory-swap", "32m", "kept")
	raw, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil || !strings.Contains(string(raw), "lade-"+id+".scope") {
		s.t.Errorf("control groups of kept: %s, %v", raw, err)
	}
	if n, err := strconv.Atoi(pid); err != nil || syscall.Kill(n, 0) != nil {
		s.t.Errorf("process %s: %v", pid, err)
	}
	s.Run("rm", "-f", "kept")
	s.gone(id)
}
