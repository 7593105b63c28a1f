package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/need"
	"lade/test/harness"
)

// unified is an engine on a host whose only hierarchy of control groups is the
// one of version 2.
type unified struct {
	*harness.Engine
	t   *testing.T
	ids map[string]string // of containers, by name; asking costs seconds in an emulator
}

// file reads a file of a container's control group, as the host sees it.
func (u unified) file(container, name string) string {
	u.t.Helper()
	raw, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", u.Group(), u.id(container), name))
	if err != nil {
		u.t.Errorf("read a file of the control group: %v", err)
	}
	return strings.TrimSpace(string(raw))
}

func (u unified) id(container string) string {
	u.t.Helper()
	if u.ids[container] == "" {
		u.ids[container] = u.Run("inspect", "--format", "{{.Id}}", container)
	}
	return u.ids[container]
}

func (u unified) wants(container string, files map[string]string) {
	u.t.Helper()
	for name, want := range files {
		if got := u.file(container, name); got != want {
			u.t.Errorf("%s of %s is %q, want %q", name, container, got, want)
		}
	}
}

// prints runs lade and compares its output.
func (u unified) prints(want string, args ...string) {
	u.t.Helper()
	if got := u.Run(args...); got != want {
		u.t.Errorf("lade %s: %q, want %q", strings.Join(args, " "), got, want)
	}
}

// soon calls f until it returns nil.
func (u unified) soon(f func() error) {
	u.t.Helper()
	var err error
	for end := time.Now().Add(need.Patience(30 * time.Second)); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	u.t.Errorf("never so: %v", err)
}

// TestUnified holds the engine to what version 2 of control groups has of its
// own: limits in its files, devices by a program, the namespace of a container,
// the freezer, and a daemon and a supervisor that find everything again.
func TestUnified(t *testing.T) {
	need.Root(t)
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil {
		t.Skip("control groups are not of version 2 here")
	}
	e := harness.Start(t)
	for _, part := range []struct {
		name string
		run  func(unified)
	}{
		{"limits", unified.limits}, {"memory", unified.memory}, {"reservation", unified.reservation}, {"devices", unified.devices},
		{"namespace", unified.namespace}, {"freezer", unified.freezer}, {"killed", unified.killed},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(unified{e, t, map[string]string{}}) })
	}
}

func (u unified) limits() {
	u.Run("run", "-d", "--name", "box", "-m", "64m", "--memory-swap", "128m", "--memory-reservation", "32m", "--cpus", "0.5",
		"--cpu-shares", "512", "--cpuset-cpus", "0", "--pids-limit", "50", "lade/hello", "sleep", "1000")
	u.wants("box", map[string]string{
		"memory.max": "67108864", "memory.swap.max": "67108864", "memory.low": "33554432",
		"cpu.max": "50000 100000", "cpu.weight": "59", "cpuset.cpus": "0", "pids.max": "50",
	})
	u.Run("update", "-m", "32m", "--memory-swap", "32m", "--cpus", "2", "--pids-limit", "40", "--cpu-shares", "1024", "box")
	u.wants("box", map[string]string{
		"memory.max": "33554432", "memory.swap.max": "0", "cpu.max": "200000 100000", "cpu.weight": "100", "pids.max": "40",
	})
	u.prints("32MiB "+u.file("box", "pids.current"), "stats", "--no-stream", "--format", `{{index (split .MemUsage " / ") 1}} {{.PIDs}}`, "box")
	u.remove("box")

	// What uses all of a CPU gets a fifth of it.
	u.Run("run", "-d", "--name", "busy", "--cpus", "0.2", "lade/hello", "sh", "-c", "while :; do :; done")
	u.soon(func() error {
		for line := range strings.Lines(u.file("busy", "cpu.stat")) {
			if f := strings.Fields(line); len(f) == 2 && f[0] == "nr_throttled" && f[1] != "0" {
				return nil
			}
		}
		return fmt.Errorf("it was never throttled:\n%s", u.file("busy", "cpu.stat"))
	})
	u.remove("busy")
}

func (u unified) memory() {
	out, stderr, code := u.Try("run", "--name", "big", "-m", "16m", "--memory-swap", "16m", "lade/hello",
		"dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1")
	if code != 137 {
		u.t.Errorf("exit code %d, want 137\n%s%s", code, out, stderr)
	}
	u.prints("true 137", "inspect", "--format", "{{.State.OOMKilled}} {{.State.ExitCode}}", "big")
	u.remove("big")
}

// reservation: when two containers are to have less together, the one that has
// reserved what it uses keeps it, and the other one's cache goes.
func (u unified) reservation() {
	u.reserved("low", "--memory-reservation", "64m")
	u.reserved("min", "--cgroup-conf", "memory.min=67108864")
}

// reserved does so below a group of that name, with a flag that reserves.
func (u unified) reserved(group string, flag ...string) {
	parent := u.Group() + "/" + group
	const each = 24 << 20
	for name, flags := range map[string][]string{"kept": flag, "other": nil} {
		args := append([]string{"run", "-d", "--name", name, "--network", "none", "--cgroup-parent", "/" + parent}, flags...)
		u.Run(append(args, "lade/hello",
			"sh", "-c", fmt.Sprintf("dd if=/dev/zero of=/file bs=1M count=%d 2>/dev/null; sync; cat /file >/dev/null; echo ready; sleep 1000", each>>20))...)
		u.soon(func() error {
			if out := u.Run("logs", name); !strings.Contains(out, "ready") {
				return fmt.Errorf("%s has not begun: %q", name, out)
			}
			return nil
		})
	}
	cache := func(container string) (bytes int) {
		raw, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", parent, u.id(container), "memory.stat"))
		if err != nil {
			u.t.Fatal(err)
		}
		for line := range strings.Lines(string(raw)) {
			if n, ok := strings.CutPrefix(line, "file "); ok {
				bytes, _ = strconv.Atoi(strings.TrimSpace(n))
			}
		}
		return bytes
	}
	kept, other := cache("kept"), cache("other")
	if kept < each*9/10 || other < each*9/10 {
		u.t.Fatalf("%s: the caches are %d and %d, want %d", flag, kept, other, each)
	}
	// What is charged beside the caches differs between kernels.
	raw, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", parent, "memory.current"))
	if err != nil {
		u.t.Fatal(err)
	}
	together, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		u.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("/sys/fs/cgroup", parent, "memory.max"), []byte(strconv.Itoa(together-each/2)), 0); err != nil {
		u.t.Fatal(err)
	}
	if kept, other = cache("kept"), cache("other"); kept < each*9/10 || other > each*3/4 {
		u.t.Errorf("%s: after the pressure the one with a reservation has %d, the other one %d of %d", flag, kept, other, each)
	}
	u.remove("kept")
	u.remove("other")
}

// devices: a node that the host has, seen through a volume, is not opened;
// given as a device, it is.
func (u unified) devices() {
	node := filepath.Join(u.t.TempDir(), "fuse")
	if err := unix.Mknod(node, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 229))); err != nil {
		u.t.Fatal(err)
	}
	open := []string{"lade/hello", "sh", "-c", ": < /node && echo opened"}
	out, stderr, _ := u.Try(append([]string{"run", "--rm", "-v", node + ":/node"}, open...)...)
	if !strings.Contains(strings.ToLower(stderr), "operation not permitted") || out != "" {
		u.t.Errorf("a device of the host: %q, %q", out, stderr)
	}
	for _, how := range [][]string{{"--device", node + ":/node"}, {"--privileged", "-v", node + ":/node"},
		{"--device-cgroup-rule", "c 10:* r", "-v", node + ":/node"}} {
		_, stderr, _ := u.Try(append(append([]string{"run", "--rm"}, how...), open...)...)
		if strings.Contains(strings.ToLower(stderr), "not permitted") {
			u.t.Errorf("%s: %s", how, stderr)
		}
	}
	u.prints("ok", "run", "--rm", "lade/hello", "sh", "-c", "echo x > /dev/null && head -c 1 /dev/urandom > /dev/null && echo ok")
}

// namespace: a container sees its own group as the root, and cannot write it;
// what is run in it by exec is in the group too.
func (u unified) namespace() {
	u.prints("0::/", "run", "--rm", "lade/hello", "cat", "/proc/self/cgroup")
	u.prints("67108864", "run", "--rm", "-m", "64m", "lade/hello", "cat", "/sys/fs/cgroup/memory.max")
	if _, stderr, code := u.Try("run", "--rm", "-m", "64m", "lade/hello", "sh", "-c", "echo max > /sys/fs/cgroup/memory.max"); code == 0 {
		u.t.Errorf("a container raises its own limit: %s", stderr)
	}
	host := u.Run("run", "--rm", "--cgroupns", "host", "lade/hello", "cat", "/proc/self/cgroup")
	if !strings.HasPrefix(host, "0::/"+u.Group()+"/") {
		u.t.Errorf("with the host's namespace: %q", host)
	}
	u.Run("run", "-d", "--name", "box", "lade/hello", "sleep", "1000")
	u.prints("0::/", "exec", "box", "cat", "/proc/self/cgroup")
	u.Run("exec", "-d", "box", "sleep", "1001")
	u.soon(func() error {
		if procs := u.file("box", "cgroup.procs"); len(strings.Fields(procs)) != 2 {
			return fmt.Errorf("processes %q, want two", procs)
		}
		return nil
	})
	u.remove("box")
}

func (u unified) freezer() {
	u.Run("run", "-d", "--name", "box", "lade/hello", "sh", "-c", "while :; do :; done")
	u.Run("pause", "box")
	u.wants("box", map[string]string{"cgroup.freeze": "1"})
	if events := u.file("box", "cgroup.events"); !strings.Contains(events, "frozen 1") {
		u.t.Errorf("paused: %s", events)
	}
	u.prints("paused", "inspect", "--format", "{{.State.Status}}", "box")
	if _, stderr, code := u.Try("exec", "box", "true"); code == 0 || !strings.Contains(stderr, "is paused") {
		u.t.Errorf("exec: %d %s", code, stderr)
	}
	u.Run("unpause", "box")
	u.wants("box", map[string]string{"cgroup.freeze": "0"})
	u.Run("pause", "box")
	u.remove("box") // frozen as it is
}

// killed ends the daemon and then the supervisor without notice: the container
// and its published port stay, and what is asked afterwards still works.
func (u unified) killed() {
	u.Run("run", "-d", "--name", "web", "-m", "64m", "-p", "127.0.0.1:"+harness.FreePort(u.t)+":80", "lade/hello", "sh", "-c",
		"mkdir /w; echo served > /w/page; exec httpd -p 80 -h /w")
	address := u.Run("port", "web", "80")
	served := func() error {
		c := http.Client{Timeout: need.Patience(2 * time.Second), Transport: &http.Transport{DisableKeepAlives: true}}
		r, err := c.Get("http://" + address + "/page")
		if err != nil {
			return err
		}
		defer r.Body.Close()
		if b, err := io.ReadAll(r.Body); err != nil || string(b) != "served\n" {
			return fmt.Errorf("%q, %w", b, err)
		}
		return nil
	}
	u.soon(served)
	pid := u.Run("inspect", "--format", "{{.State.Pid}}", "web")
	u.Kill()
	u.soon(served)
	u.Launch()
	u.prints("true "+pid, "inspect", "--format", "{{.State.Running}} {{.State.Pid}}", "web")
	u.Run("update", "-m", "32m", "--memory-swap", "32m", "web")
	u.wants("web", map[string]string{"memory.max": "33554432"})

	old := u.Supervisor()
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		u.t.Fatal(err)
	}
	u.soon(func() error {
		if now := u.Supervisor(); now == 0 || now == old {
			return fmt.Errorf("the supervisor is process %d", now)
		}
		return nil
	})
	u.soon(served)
	u.prints("true "+pid, "inspect", "--format", "{{.State.Running}} {{.State.Pid}}", "web")
	u.prints("0::/", "exec", "web", "cat", "/proc/self/cgroup")
	u.Run("stop", "-t", "1", "web")
	u.prints("exited", "inspect", "--format", "{{.State.Status}}", "web")
	u.remove("web")
}

// remove removes a container: its control group must be gone, too.
func (u unified) remove(container string) {
	u.t.Helper()
	dir := filepath.Join("/sys/fs/cgroup", u.Group(), u.id(container))
	u.Run("rm", "-f", container)
	delete(u.ids, container)
	u.soon(func() error {
		if _, err := os.Stat(dir); err == nil {
			return fmt.Errorf("%s is still there", dir)
		}
		return nil
	})
}
