package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/need"
)

// expect compares the lines of an output.
func expect(t *testing.T, got string, want ...string) {
	t.Helper()
	if w := strings.Join(want, "\n") + "\n"; got != w {
		t.Errorf("got\n%swant\n%s", got, w)
	}
}

// TestConfigIsCopied changes the bundle after create.
func TestConfigIsCopied(t *testing.T) {
	r := newRig(t, nil)
	r.create()
	if err := os.Remove(filepath.Join(r.bundle, "config.json")); err != nil {
		t.Fatal(err)
	}
	r.do("start", r.id)
	if got := r.do("exec", r.id, "/payload", "show", "cwd"); got != "cwd / <nil>\n" {
		t.Error(got)
	}
}

// TestNoProcess: such a container can be created, and only deleted then.
func TestNoProcess(t *testing.T) {
	r := newRig(t, func(s *specs.Spec) { s.Process = nil })
	r.create()
	if got := r.status(); got != "created" {
		t.Error(got)
	}
	if code, msg := r.fails("start", r.id); code != 1 || !strings.Contains(msg, "without a process") {
		t.Errorf("%d %s", code, msg)
	}
	r.do("delete", r.id)
	r.nothingLeft()
}

func TestPreserveFDs(t *testing.T) {
	r := newRig(t, func(s *specs.Spec) {
		s.Process.Args = []string{"/payload", "show", "fd=3", "env=LISTEN_FDS", "env=LISTEN_PID"}
	})
	file := func(content string) *os.File {
		f, err := os.Create(filepath.Join(t.TempDir(), "f"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		fmt.Fprint(f, content)
		_, _ = f.Seek(0, 0)
		return f
	}
	for _, early := range []bool{false, true} { // created and started at once, and with a stop between
		r.edit(func(s *specs.Spec) {
			s.Process.Args = []string{"/payload", "show", "fd=3", "env=LISTEN_FDS", "env=LISTEN_PID"}
		})
		cmd := r.command("run", "--preserve-fds", "1", "--bundle", r.bundle, r.id)
		if early {
			r.edit(func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/true"}}} })
		}
		cmd.ExtraFiles = []*os.File{file("one"), file("two")}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Error(err)
		}
		expect(t, string(out), `fd 3 "one" <nil>`, "env LISTEN_FDS ", "env LISTEN_PID ")
		r.edit(func(s *specs.Spec) {
			s.Process.Args = append(s.Process.Args[:2:2], "fd=3", "fd=4", "env=LISTEN_FDS", "env=LISTEN_PID")
		})
		cmd = r.command("run", "--bundle", r.bundle, r.id)
		cmd.Env = append(cmd.Env, "LISTEN_FDS=2")
		cmd.ExtraFiles = []*os.File{file("one"), file("two")}
		if out, err = cmd.CombinedOutput(); err != nil {
			t.Error(err)
		}
		expect(t, string(out), `fd 3 "one" <nil>`, `fd 4 "two" <nil>`, "env LISTEN_FDS 2", "env LISTEN_PID 1")
	}
	if code, msg := r.fails("run", "--preserve-fds", "9", "--bundle", r.bundle, r.id); code != 1 || !strings.Contains(msg, "preserved-fd") {
		t.Errorf("%d %s", code, msg)
	}
}

func TestExecOptions(t *testing.T) {
	r := newRig(t, func(s *specs.Spec) { s.Process.NoNewPrivileges = false })
	r.create()
	r.do("start", r.id)
	expect(t, r.do("exec", "--cwd", "/tmp", "-e", "A=b", "--env", "C=d", "-u", "12:34", "-g", "5", "--additional-gids", "6", "--no-new-privs", r.id,
		"/payload", "show", "cwd", "ids", "env=A", "env=C", "status=NoNewPrivs"),
		"cwd /tmp <nil>", "ids 12 34 [5 6] <nil>", "env A b", "env C d", "status NoNewPrivs 1")
	plain := r.do("exec", r.id, "/payload", "show", "status=CapEff")
	more := r.do("exec", "--cap", "CAP_SYS_CHROOT", r.id, "/payload", "show", "status=CapEff")
	var a, b uint64
	fmt.Sscanf(plain, "status CapEff %x", &a)
	fmt.Sscanf(more, "status CapEff %x", &b)
	if a&(1<<unix.CAP_SYS_CHROOT) != 0 || b != a|1<<unix.CAP_SYS_CHROOT {
		t.Errorf("capabilities %x and %x", a, b)
	}
	p := specs.Process{Args: []string{"/payload", "show", "cwd", "cpus"}, Cwd: "/proc", ExecCPUAffinity: &specs.CPUAffinity{Initial: "0", Final: "0"}}
	file := filepath.Join(t.TempDir(), "process.json")
	j, err := json.Marshal(p)
	if err == nil {
		err = os.WriteFile(file, j, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	expect(t, r.do("exec", "--process", file, r.id), "cwd /proc <nil>", "cpus 1 true <nil>")
	if code, _ := r.fails("exec", r.id, "/payload", "exit", "a", "b", "c"); code != 4 {
		t.Errorf("exit code %d", code)
	}
	r.do("pause", r.id)
	if code, msg := r.fails("exec", r.id, "/payload", "hello"); code != 255 || !strings.Contains(msg, "exec failed: cannot exec in a paused container") {
		t.Errorf("%d %s", code, msg)
	}
	late := r.command("exec", "--ignore-paused", r.id, "/payload", "show", "cwd")
	var out strings.Builder
	late.Stdout = &out
	if err := late.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if out.String() != "" {
		t.Error("it ran in a paused container")
	}
	r.do("resume", r.id)
	if err := late.Wait(); err != nil || out.String() != "cwd / <nil>\n" {
		t.Errorf("%v %q", err, out.String())
	}
	r.do("kill", r.id, "KILL")
}

// TestPausedKill: with a version 1 freezer SIGKILL alone would wait.
func TestPausedKill(t *testing.T) {
	r := newRig(t, nil)
	r.create()
	r.do("start", r.id)
	r.do("pause", r.id)
	r.do("kill", r.id, "KILL")
	need.Eventually(t, "stopped", func() bool { return r.status() == "stopped" })
	if code, msg := r.fails("kill", r.id, "KILL"); code != 1 || !strings.Contains(msg, "container not running") {
		t.Errorf("%d %s", code, msg)
	}
	r.do("delete", r.id)
	r.nothingLeft()
}

func TestScheduling(t *testing.T) {
	zero := "0"
	r := newRig(t, func(s *specs.Spec) {
		s.Process.Args = []string{"/payload", "show", "scheduler", "ioprio"}
		s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 7}
		s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
	})
	expect(t, r.run(), "scheduler 3 7", "ioprio 2 6 0")
	_, err := os.Stat("/proc/self/numa_maps")
	r.edit(func(s *specs.Spec) {
		s.Process.Args = []string{"/payload", "show", "numa=bind:0"}
		s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: zero}
	})
	if err == nil {
		expect(t, r.run(), "numa true <nil>")
	} else if code, msg := r.fails("run", "--bundle", r.bundle, r.id); code != 1 || !strings.Contains(msg, "unable to set memory policy") {
		t.Errorf("a kernel without NUMA: %d %s", code, msg)
	}
	for want, edit := range map[string]func(*specs.Spec){
		"invalid scheduler policy":    func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: "SCHED_MAGIC"} },
		"scheduler.priority can only": func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Priority: 1} },
		"invalid ioPriority.Priority": func(s *specs.Spec) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 8}
		},
		"invalid memory policy mode": func(s *specs.Spec) { s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: "MPOL_WISH"} },
		"no resctrl file system":     func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{} },
		"not in a separate kernel":   func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"vm.swappiness": "1"} },
		"without a private network": func(s *specs.Spec) {
			s.Linux.Namespaces = s.Linux.Namespaces[:1]
			s.Hostname, s.Linux.Sysctl = "", map[string]string{"net.ipv4.ip_forward": "1"}
		},
	} {
		r := newRig(t, edit)
		if code, msg := r.failsCreate(); code != 1 || !strings.Contains(msg, want) {
			t.Errorf("%s: %d %s", want, code, msg)
		}
		r.nothingLeft()
	}
}

// TestLabels: what only a security module could do has no effect, and the log
// says so, where the kernel has none; else a profile that is not there is an
// error.
func TestLabels(t *testing.T) {
	r := newRig(t, func(s *specs.Spec) {
		s.Process.Args = []string{"/payload", "exit", "two"}
		s.Process.ApparmorProfile = "no-such-profile"
	})
	log := filepath.Join(t.TempDir(), "log")
	code, msg := r.fails("--log", log, "run", "--bundle", r.bundle, r.id)
	if _, err := os.Stat(appArmor); err == nil {
		if code != 1 || !strings.Contains(msg, "apparmor") {
			t.Errorf("a profile that is not there: %d %s", code, msg)
		}
	} else if code != 2 || !strings.Contains(read(t, log), "no-such-profile") {
		t.Errorf("without AppArmor: %d %s, log %q", code, msg, read(t, log))
	}
}

// TestNetDevice moves one end of a pair into a container, under a new name, or one
// that the kernel chooses, and with its address. Where the name is taken, nothing is
// created.
func TestNetDevice(t *testing.T) {
	need.Root(t)
	ip := need.Program(t, "ip", "iproute2")
	name := fmt.Sprintf("lt%d", os.Getpid())
	for newName, inside := range map[string]string{"eth7": "eth7", "eth%d": "eth0", "": name, "lo": ""} {
		for _, args := range [][]string{
			{"link", "add", name, "type", "veth", "peer", "name", name + "p"},
			{"addr", "add", "10.254.77.9/32", "dev", name},
		} {
			if out, err := exec.Command(ip, args...).CombinedOutput(); err != nil {
				t.Fatalf("%v %s", err, out)
			}
		}
		gone := func() { _ = exec.Command(ip, "link", "del", name+"p").Run() }
		t.Cleanup(gone)
		r := newRig(t, func(s *specs.Spec) {
			s.Process.Args = []string{"/payload", "show", "link=" + inside, "fib=10.254.77.9"}
			s.Linux.NetDevices = map[string]specs.LinuxNetDevice{name: {Name: newName}}
		})
		if inside != "" {
			expect(t, r.run(), "link true <nil>", "fib true <nil>")
		} else if code, msg := r.failsCreate(); code != 1 || !strings.Contains(msg, "file exists") {
			t.Errorf("%d %s", code, msg)
		}
		r.nothingLeft()
		gone() // with the container's namespace, or here
	}
	r := newRig(t, func(s *specs.Spec) { s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"lt-nosuch": {}} })
	if code, msg := r.failsCreate(); code != 1 || !strings.Contains(msg, `\"lt-nosuch\": no such device`) {
		t.Errorf("%d %s", code, msg)
	}
}

// TestForeignMountNamespace: without a mount namespace of its own the container
// only has its root; the host's mounts are as they were.
func TestForeignMountNamespace(t *testing.T) {
	before := read(t, "/proc/self/mounts")
	r := newRig(t, func(s *specs.Spec) {
		s.Process.Args = []string{"/payload", "sleep"}
		s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.PIDNamespace}}
		s.Hostname = ""
	})
	out := r.create()
	r.do("start", r.id)
	need.Eventually(t, "output", func() bool { b, _ := os.ReadFile(out.Name()); return string(b) == "ready\n" })
	expect(t, r.do("exec", r.id, "/payload", "show", "cwd"), "cwd / <nil>")
	if after := read(t, "/proc/self/mounts"); after != before {
		t.Error("the host's mounts have changed")
	}
	r.do("kill", r.id, "KILL")
	need.Eventually(t, "stopped", func() bool { return r.status() == "stopped" })
}

func TestEvents(t *testing.T) {
	r := newRig(t, nil)
	r.create()
	r.do("start", r.id)
	var e struct {
		Type, ID string
		Data     stats
	}
	r.json(&e, "events", "--stats", r.id)
	if e.Type != "stats" || e.ID != r.id || e.Data.Pids.Current == 0 || e.Data.CPU.Usage.Total == 0 {
		t.Errorf("%+v", e)
	}
	cmd := r.command("events", "--interval", "50ms", r.id)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(out)
	for range 3 {
		if err := d.Decode(&e); err != nil || e.Type != "stats" {
			t.Fatal(e.Type, err)
		}
	}
	r.do("kill", r.id, "KILL")
	if err := cmd.Wait(); err != nil {
		t.Errorf("events does not end with the container: %v", err)
	}
}

// TestExecGroups puts processes in groups below the container's.
func TestExecGroups(t *testing.T) {
	r := newRig(t, nil)
	need.File(t, "/sys/fs/cgroup/pids/tasks", "control groups version 1")
	r.create()
	r.do("start", r.id)
	for _, dir := range []string{"pids", "memory", "freezer"} {
		dir = "/sys/fs/cgroup/" + dir + "/" + r.id + "/below"
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(dir)
	}
	groups := r.do("exec", "--cgroup", "pids,memory:below", "--cgroup", "freezer:/below", r.id, "/payload", "show", "file=/proc/self/cgroup")
	for controller, want := range map[string]string{"pids": "/below", "memory": "/below", "freezer": "/below", "devices": "/", "cpu": "/"} {
		if !strings.Contains(groups, ":"+controller+":"+want+" ") && !strings.Contains(groups, ":"+controller+":"+want+"]") {
			t.Errorf("%s is not in %s: %s", controller, want, groups)
		}
	}
	for _, bad := range []string{"pids:nowhere", "nothing:below", "nowhere"} {
		if code, msg := r.fails("exec", "--cgroup", bad, r.id, "/payload", "exit"); code != codeExecFailed {
			t.Errorf("%s: %d %s", bad, code, msg)
		}
	}
}

func TestFeatures(t *testing.T) {
	r := newRig(t, nil)
	var f struct{ OCIVersionMax string }
	r.json(&f, "features")
	if f.OCIVersionMax != specs.Version {
		t.Error(f)
	}
	for _, verb := range []string{"checkpoint", "restore"} {
		if code, msg := r.fails(verb, r.id); code != 1 || !strings.Contains(msg, "not implemented") {
			t.Errorf("%d %s", code, msg)
		}
	}
}

func TestSize(t *testing.T) {
	for in, want := range map[string]int64{"-1": -1, "0": 0, "7": 7, "2k": 2048, "64m": 64 << 20, "1.5GiB": 3 << 29, "1Gb": 1 << 30} {
		if got, err := size(in); err != nil || got != want {
			t.Errorf("%s: %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "m", "1x", "-5", "1mm"} {
		if got, err := size(in); err == nil {
			t.Errorf("%s: %d", in, got)
		}
	}
}
