package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"lade/internal/need"
	"lade/test/harness"
)

// debian is the name of an image with a service manager and another engine.
const debian = "lade-test/debian"

// nest is an engine with that image, driven by one of the clients.
type nest struct {
	*harness.Engine
	t      *testing.T
	client string
}

// run returns what a command line of the client printed.
func (n nest) run(args ...string) string {
	n.t.Helper()
	return n.feed(nil, args...)
}

// feed is run with something to read on standard input.
func (n nest) feed(stdin []byte, args ...string) string {
	n.t.Helper()
	out, stderr, err := n.try(stdin, args...)
	if err != nil {
		n.t.Fatalf("%s %s: %v\n%s%s", n.client, strings.Join(args, " "), err, out, stderr)
	}
	return out
}

func (n nest) try(stdin []byte, args ...string) (stdout, stderr string, err error) {
	cmd := n.Command(n.client, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return strings.TrimSpace(out.String()), errOut.String(), err
}

// eventually waits until a command line succeeds.
func (n nest) eventually(args ...string) string {
	n.t.Helper()
	for end := time.Now().Add(need.Patience(30 * time.Second)); ; time.Sleep(100 * time.Millisecond) {
		out, stderr, err := n.try(nil, args...)
		if err == nil {
			return out
		}
		if time.Now().After(end) {
			n.t.Fatalf("%s %s: %v\n%s%s", n.client, strings.Join(args, " "), err, out, stderr)
		}
	}
}

// groups returns the directories of a container's control group, in every
// hierarchy, that end in a path.
func (n nest) groups(container, end string) []string {
	n.t.Helper()
	id := n.run("inspect", "-f", "{{.Id}}", container)
	var out []string
	for _, pattern := range []string{"/sys/fs/cgroup/*/", "/sys/fs/cgroup/"} {
		found, err := filepath.Glob(pattern + filepath.Join(n.Group(), id, end))
		if err != nil {
			n.t.Fatal(err)
		}
		out = append(out, found...)
	}
	return out
}

// TestNesting: a service manager and other engines as containers. The image
// takes a minute to make for the first time, and seconds to import.
func TestNesting(t *testing.T) {
	need.Root(t)
	tar := harness.Debian(t, "systemd", "systemd-sysv", "dbus", "docker.io", "iptables")
	e := harness.Start(t)
	e.ImportFile(tar, debian)
	t.Run("systemd", func(t *testing.T) { bootInit(nest{e, t, "lade"}) })
	for _, c := range []struct{ client, daemon, root string }{{"docker", "dockerd", "/var/lib/docker"}, {"lade", "laded", "/var/lib/lade"}} {
		kinds := map[string][]string{"privileged": {"--privileged"}, "nesting": {"--security-opt", "nesting=true"}}
		if c.client == "lade" { // by other runtimes, which make what is around it otherwise
			for _, r := range []string{"runc", "lxc"} {
				kinds[r] = append([]string{"--runtime", r}, kinds["nesting"]...)
			}
		}
		for name, flags := range kinds {
			t.Run(c.client+"/"+name, func(t *testing.T) {
				if c.client == "docker" {
					need.Program(t, "docker", "Debian's docker-cli")
				}
				switch name {
				case "runc":
					need.Program(t, "runc", "Debian's runc")
				case "lxc":
					need.Program(t, "lxc-start", "Debian's lxc")
				}
				engineInside(nest{e, t, c.client}, c.client, c.daemon, c.root, flags)
			})
		}
	}
}

// bootInit boots Debian's init, which makes control groups for its services
// below the container's limits, and ends when it is told to.
func bootInit(n nest) {
	args := []string{"run", "-d", "-t", "--name", "init", "--tmpfs", "/run", "--tmpfs", "/run/lock", "--stop-signal", "SIGRTMIN+3",
		"--security-opt", "writable-cgroups=true", "-m", "256m", "--memory-swap", "256m"}
	for _, unit := range []string{"docker.service", "docker.socket", "containerd.service"} { // they are for others
		args = append(args, "-v", "/dev/null:/etc/systemd/system/"+unit)
	}
	n.run(append(args, debian, "/sbin/init")...)
	booted := func() (state string) {
		state, _, _ = n.try(nil, "exec", "init", "systemctl", "is-system-running", "--wait")
		return state
	}
	for end := time.Now().Add(need.Patience(30 * time.Second)); booted() != "running"; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			n.t.Fatalf("the system is %q\n%s\n%s", booted(), n.run("exec", "init", "systemctl", "--failed"), n.run("exec", "init", "journalctl", "-b", "-p", "warning"))
		}
	}
	n.run("exec", "init", "systemd-run", "--unit", "job", "sleep", "4242")
	if len(n.groups("init", "payload/system.slice/job.service")) == 0 {
		n.t.Error("the service has no control group below the container's")
	}
	if got := n.run("exec", "init", "systemctl", "is-active", "job"); got != "active" {
		n.t.Errorf("the service is %s", got)
	}
	began := time.Now()
	n.run("stop", "-t", "60", "init")
	if got := n.run("inspect", "-f", "{{.State.ExitCode}}", "init"); got != "0" {
		n.t.Errorf("exit code %s after %v", got, time.Since(began))
	}
	if log := n.run("logs", "init"); !strings.Contains(log, "Stopped job.service") && !strings.Contains(log, "Exiting container.") {
		n.t.Errorf("it did not end in order:\n%s", log)
	}
	n.run("rm", "init")
}

// engineInside runs an engine in a container with some flags and uses it: its
// image, its overlay on a volume, its network with a published port, its
// control groups below ours, its process namespace in ours.
func engineInside(n nest, client, daemon, root string, more []string) {
	flags := append([]string{"run", "-d", "--name", "outer", "-v", "nested:" + root}, more...)
	if client == "lade" {
		for _, bin := range []string{"lade", "laded", "lade-supervisor", "lade-init"} {
			flags = append(flags, "-v", filepath.Join(n.Bin, bin)+":/usr/local/bin/"+bin+":ro")
		}
	}
	n.run(append(flags, debian, daemon)...)
	defer func() {
		if n.t.Failed() {
			_, log, _ := n.try(nil, "logs", "--tail", "50", "outer")
			n.t.Log(log)
		}
		n.run("rm", "-f", "-v", "outer")
		n.run("volume", "rm", "nested")
	}()
	n.eventually("exec", "outer", client, "version")
	n.feed(n.Rootfs(), "exec", "-i", "outer", client, "import", "-", "inner")
	if got := n.run("exec", "outer", client, "run", "--rm", "--hostname", "deep", "-m", "32m", "inner", "hostname"); got != "deep" {
		n.t.Errorf("the inner container is called %q", got)
	}
	n.run("exec", "outer", client, "run", "-d", "--name", "web", "-p", "8080:80", "inner",
		"sh", "-c", "mkdir /w; echo from the inside > /w/index.html; httpd -p 80 -h /w; exec sleep "+seconds())
	get := `exec 3<>/dev/tcp/127.0.0.1/8080; printf "GET / HTTP/1.0\r\n\r\n" >&3; cat <&3`
	if got := n.eventually("exec", "outer", "bash", "-c", get); !strings.Contains(got, "from the inside") {
		n.t.Errorf("the inner container serves %q", got)
	}
	pid := sleeper(n.t, seconds())
	if got := len(strings.Fields(statusLine(n.t, pid, "NSpid:"))); got != 3 {
		n.t.Errorf("the inner process is in %d process namespaces, want 3", got)
	}
	raw, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		n.t.Fatal(err)
	}
	ours := "/" + filepath.Join(n.Group(), n.run("inspect", "-f", "{{.Id}}", "outer")) + "/"
	for line := range strings.Lines(string(raw)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if parts[1] != "" && !strings.HasPrefix(parts[1], "name=") && !strings.HasPrefix(parts[2], ours) {
			n.t.Errorf("the inner container is in control group %s, not below %s", line, ours)
		}
	}
	n.run("exec", "outer", client, "rm", "-f", "web")
	if client != "lade" || !slices.Contains(more, "nesting=true") {
		return
	}
	// What its kernel does not let it do is told, and has another way.
	for _, flags := range [][]string{{"--userns", "auto"}, {"--security-opt", "nesting=true"}} {
		args := append([]string{"exec", "outer", client, "run", "--rm"}, flags...)
		if _, stderr, err := n.try(nil, append(args, "inner", "true")...); err == nil || !strings.Contains(stderr, "the engine runs in a user namespace itself") {
			n.t.Errorf("%v in it: %v, %s", flags, err, stderr)
		}
	}
	n.run("exec", "outer", client, "run", "--rm", "--privileged", "inner", "mount", "-t", "tmpfs", "none", "/tmp")
}

// TestNestingIsNotPrivileged: what a container that may nest still cannot do.
func TestNestingIsNotPrivileged(t *testing.T) {
	need.Root(t)
	clients(t, func(t *testing.T, e *harness.Engine, run func(args ...string) string) {
		run("run", "-d", "--name", "nest", "--security-opt", "nesting=true", "-m", "64m", "--memory-swap", "64m", "lade/hello", "sleep", seconds())
		pid := sleeper(t, seconds())
		for _, what := range []string{"Uid:", "Gid:"} {
			if ids := strings.Fields(statusLine(t, pid, what)); len(ids) != 4 || ids[0] == "0" {
				t.Errorf("%s %v on the host", what, ids)
			}
		}
		for _, try := range []string{
			"echo 1 > /proc/sys/kernel/panic", "echo b > /proc/sysrq-trigger", "echo 1 > /proc/sys/vm/drop_caches",
			"mkdir /tmp/d && mount -t ext4 /dev/vda /tmp/d", "mount -t debugfs none /tmp", "cat /proc/kcore | head -c 1 | grep -q .",
			"hostname x && hostname | grep -qx " + hostname(t),
		} {
			if _, _, code := e.Try("exec", "nest", "sh", "-c", try); code == 0 {
				t.Errorf("the container can: %s", try)
			}
		}
		// Its own namespaces are its own.
		run("exec", "nest", "sh", "-c", "mkdir -p /tmp/t && mount -t tmpfs none /tmp/t && touch /tmp/t/f && umount /tmp/t")
		run("exec", "nest", "sh", "-c", "mkdir -p /tmp/p && mount -t proc proc /tmp/p && test -e /tmp/p/1 && umount /tmp/p")
		run("exec", "nest", "sh", "-c", "d=/sys/fs/cgroup; [ ! -d $d/memory ] || d=$d/memory; mkdir $d/below && echo 0 > $d/below/cgroup.procs")
		// The limit is above what it can write to.
		_, _, code := e.Try("exec", "nest", "sh", "-c", "for f in /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes /sys/fs/cgroup/memory/memory.limit_in_bytes; do [ ! -e $f ] || echo -1 > $f; done; head -c 100000000 /dev/zero > /dev/shm/f")
		// Asked from outside: nothing more fits into the container, which may be gone.
		if fi, err := os.Stat("/proc/" + pid + "/root/dev/shm/f"); code == 0 || err == nil && fi.Size() >= 100000000 {
			t.Error("the container lifted its limit of memory")
		}
		for _, flags := range [][]string{{"--privileged"}, {"--userns", "host"}} {
			args := append([]string{"run", "--rm", "--security-opt", "nesting=true"}, flags...)
			if _, stderr, code := e.Try(append(args, "lade/hello", "true")...); code != 125 || !strings.Contains(stderr, "conflicting options: nesting and the ") {
				t.Errorf("%v: exit code %d, %s", flags, code, stderr)
			}
		}
	})
}

func hostname(t *testing.T) string {
	t.Helper()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// seconds is for how long a process sleeps that is to be found by it: nobody else's
// on this machine does.
func seconds() string { return strconv.Itoa(1e7 + os.Getpid()) }

// sleeper finds the process that sleeps for that many seconds, as the host numbers
// it. A process that was started has its command line a moment later: execve(2)
// releases who waits for it before.
func sleeper(t *testing.T, seconds string) (pid string) {
	t.Helper()
	need.Eventually(t, "one process sleeps "+seconds, func() bool {
		out, err := exec.Command("pgrep", "-x", "-f", "sleep "+seconds).Output()
		pids := strings.Fields(string(out))
		if err != nil || len(pids) != 1 {
			return false
		}
		pid = pids[0]
		return true
	})
	return pid
}

// statusLine returns a line of /proc/PID/status without its name.
func statusLine(t *testing.T, pid, name string) string {
	t.Helper()
	raw, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "\n"+name)
	line, _, _ := strings.Cut(rest, "\n")
	return line
}
