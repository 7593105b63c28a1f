package escape

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/need"
	"lade/test/harness"
)

// TestInheritableCapabilities is CVE-2022-24769 and CVE-2022-29162: processes
// have inheritable capabilities, so a user gets them of a program that gives
// what is inherited.
func TestInheritableCapabilities(t *testing.T) {
	w := newWorld(t)
	w.Run(w.command("run", options{"-d", "--name", "box"}, []string{"abstract-listen", "box"})...)
	if out := w.inside("box", nil, "file-caps", "/caps"); out != "" {
		t.Fatal(out)
	}
	for _, o := range []options{nil, {"--privileged"}} {
		for _, user := range []string{"0", "1000"} {
			out, stderr, _ := w.Try(append(append(options{"exec", "-u", user}, o...), "box", "/caps", "show-caps")...)
			if strings.Contains(out, "escaped:") || !strings.Contains(out, "inheritable 0000000000000000") {
				t.Errorf("%v, user %s: %s%s", o, user, out, stderr)
			}
		}
	}
	if out := w.attack(options{"--privileged"}, "show-caps"); !strings.Contains(out, "inheritable 0000000000000000") {
		t.Errorf("privileged: %s", out)
	}
	succeeded(t, "a process with inheritable capabilities", w.inside("box", nil, "inheritable", "/caps"))
}

// TestUserOverflow is CVE-2024-40635: a user number that does not fit becomes
// another one, root's.
func TestUserOverflow(t *testing.T) {
	w := newWorld(t)
	for _, user := range []string{"4294967296", "4294967295", "2147483648", "-1", "18446744073709551616", "1:4294967296", "0x0"} {
		out, stderr, code := w.Try("run", "--rm", "-u", user, harness.Image, "id", "-u")
		if code == 0 {
			t.Errorf("-u %s is %s%s", user, out, stderr)
		}
	}
	if out := w.Run("run", "--rm", "-u", "2147483647", harness.Image, "id", "-u"); out != "2147483647" {
		t.Errorf("the greatest user is %s", out)
	}
}

// TestReleaseAgent is CVE-2022-0492: a process mounts control groups, in a user
// namespace of its own if it must, and has the kernel execute a file as the
// host's root.
func TestReleaseAgent(t *testing.T) {
	w := newWorld(t)
	t.Cleanup(func() { dropHierarchies(t) })
	mark := filepath.Join(w.dir, "executed")
	agent := w.file("agent", "#!/bin/sh\ntouch '"+mark+"'\n", 0o755)
	executed := func(patience time.Duration) bool {
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if _, err := os.Stat(mark); err == nil {
				return true
			}
		}
		return false
	}
	for _, o := range []options{nil, {"--security-opt", "seccomp=unconfined"}, {"--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined"},
		{"--security-opt", "writable-cgroups=true"}} {
		withstood(t, strings.Join(o, " "), w.attack(o, "release-agent", agent))
		withstood(t, strings.Join(o, " "), w.attack(o, "userns", "release-agent", agent))
	}
	if executed(200 * time.Millisecond) {
		t.Fatal("the host executed the container's file")
	}
	if _, err := os.Stat("/sys/fs/cgroup/unified"); err != nil {
		if _, err := os.Stat("/sys/fs/cgroup/memory"); err != nil {
			t.Log("control groups of version 2: no control")
			return
		}
	}
	out := w.attack(options{"--privileged"}, "release-agent", agent)
	if !executed(need.Patience(30 * time.Second)) {
		t.Errorf("the attack is not real in a privileged container: %s", out)
	}
}

// TestForkBomb makes more processes than the limit allows.
func TestForkBomb(t *testing.T) {
	w := newWorld(t)
	withstood(t, "--pids-limit 32", w.attack(options{"--pids-limit", "32"}, "fork-bomb", "100"))
	succeeded(t, "no limit", w.attack(nil, "fork-bomb", "100"))
}

// TestDevice makes the node of a disk of the host, which CAP_MKNOD allows, and
// opens it, which the control group does not.
func TestDevice(t *testing.T) {
	w := newWorld(t)
	node := w.mkdir("node") + "/loop"
	// The first loop device: whether it has a file or not, it can be opened.
	if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(7, 0))); err != nil {
		t.Fatal(err)
	}
	if fd, err := unix.Open(node, unix.O_RDONLY, 0); err != nil {
		t.Skipf("no loop device to try with: %v", err)
	} else {
		unix.Close(fd)
	}
	withstood(t, "default", w.attack(nil, "device", "7", "0"))
	withstood(t, "seccomp unconfined", w.attack(options{"--security-opt", "seccomp=unconfined"}, "device", "7", "0"))
	succeeded(t, "privileged", w.attack(options{"--privileged"}, "device", "7", "0"))
}

// dropHierarchies ends the hierarchies of control groups that attackers have made.
// One whose last group was removed a moment before its last mount went outlives
// it, and goes with another mount (kernel/cgroup/cgroup.c, cgroup_kill_sb: only
// without children), a while later.
func dropHierarchies(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	left := func() []string {
		raw, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			t.Fatal(err)
		}
		return regexp.MustCompile(`name=lade-escape-\d+`).FindAllString(string(raw), -1)
	}
	end := time.Now().Add(need.Patience(30 * time.Second))
	for round := 0; len(left()) > 0; round++ {
		if time.Now().After(end) {
			t.Fatalf("hierarchies are left: %v", left())
		}
		// Not at every look: a mount makes one anew that is about to go.
		for _, name := range left() {
			if round%50 > 0 {
				break
			}
			if err := unix.Mount("cgroup", dir, "cgroup", 0, "none,"+name); err != nil {
				t.Fatal(err)
			}
			if err := unix.Unmount(dir, 0); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestKeyring looks for the key of another container, and for one of the session
// in which the engine was started: the kernel's keyrings know no namespaces.
func TestKeyring(t *testing.T) {
	name := "lade-escape-" + strconv.Itoa(os.Getpid())
	// The engine inherits the keyring of this thread, which ends with the test. Who
	// has none gets one of its own at the first key.
	runtime.LockOSThread()
	if _, err := unix.KeyctlJoinSessionKeyring(name + "-session"); err != nil {
		t.Fatal(err)
	}
	session, err := unix.AddKey("user", name+"-host", []byte("secret"), unix.KEY_SPEC_SESSION_KEYRING)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	o := options{"--security-opt", "seccomp=unconfined"}
	w.Run(w.command("run", append(options{"-d", "--name", "owner"}, o...), []string{"key-add", name})...)
	said := w.await("owner", "ready")
	id := strings.Fields(said[strings.Index(said, "ready"):])[1]
	withstood(t, "another container", w.attack(o, "key-find", name, id))
	find := []string{"key-find", name + "-host", strconv.Itoa(session)}
	withstood(t, "the engine's session", w.attack(o, find...))
	withstood(t, "the engine's session, lade-runtime", newBundle(t, w.rootfs("root"), find...).run())
	succeeded(t, "a process of the session", w.control(find...))
	// The default profile has no keys at all.
	withstood(t, "the default profile", w.attack(nil, "key-find", name, id))
	host := w.control("key-find", name, id)
	if !strings.Contains(host, "held: search") {
		t.Errorf("the host's session has it: %s", host)
	}
}

// TestKernelMemory reads /proc/kcore.
func TestKernelMemory(t *testing.T) {
	w := newWorld(t)
	withstood(t, "default", w.attack(nil, "kcore"))
	withstood(t, "with CAP_SYS_RAWIO", w.attack(options{"--cap-add", "SYS_RAWIO"}, "kcore"))
	if f, err := os.Open("/proc/kcore"); err == nil {
		f.Close()
		succeeded(t, "unmasked", w.attack(options{"--cap-add", "SYS_RAWIO", "--security-opt", "systempaths=unconfined"}, "kcore"))
	}
}

// TestAbstractSockets is CVE-2020-15257: an abstract unix socket of the engine
// or of the host can be connected with from inside.
func TestAbstractSockets(t *testing.T) {
	w := newWorld(t)
	name := fmt.Sprintf("lade-escape-%d", os.Getpid())
	background(t, w.payload, "abstract-listen", name)
	withstood(t, "default", w.attack(nil, "abstract-find", name, "lade"))
	out := w.attack(options{"--network", "host"}, "abstract-find", name, "lade")
	succeeded(t, "the host's network", out)
	for line := range strings.Lines(out) {
		// @lade-test is the harness, of another process perhaps.
		if strings.Contains(line, "the engine listens") && !strings.Contains(line, name) && !strings.Contains(line, "@lade-test") {
			t.Error(line)
		}
	}
}

// TestInjectInput is TIOCSTI (CVE-2016-2568 and its like): the container puts
// characters into the input of the terminal that the user types at.
func TestInjectInput(t *testing.T) {
	w := newWorld(t)
	withstood(t, "no terminal", w.attack(nil, "sti"))
	w.Run(w.command("run", options{"-d", "--name", "stay"}, []string{"abstract-listen", "stay"})...)
	withstood(t, "an exec without a terminal", w.inside("stay", nil, "sti"))
	// Its own terminal takes what it gives: the other side is the engine's alone.
	if b, err := os.ReadFile("/proc/sys/dev/tty/legacy_tiocsti"); err == nil && strings.TrimSpace(string(b)) == "1" {
		out, stderr, _ := w.Try(w.command("run", options{"--rm", "-t"}, []string{"sti"})...)
		succeeded(t, "its own terminal", out+stderr)
	}
}

// TestSockets is CVE-2026-31431, where a socket of the kernel's cryptography writes
// to cached pages of any file, and CVE-2026-123876, where a number that is too large
// for a family gets one past the filter. The profile must keep both from the kernel;
// what socketcall(2) asks for it cannot see: TestAppArmor.
func TestSockets(t *testing.T) {
	w := newWorld(t)
	for _, goarch := range []string{"", "386"} {
		if goarch != "" {
			w.payload = build(t, w.mkdir("sockets"), goarch)
		}
		out := w.attack(options{"--security-opt", "seccomp=unconfined"}, "sockets")
		if goarch != "" && !strings.Contains(out, "family") {
			t.Logf("%s cannot be executed here: %s", goarch, out)
			continue
		}
		succeeded(t, "unconfined "+goarch, out)
		withstood(t, goarch, w.attack(nil, "sockets"))
		withstood(t, goarch+" with capabilities", w.attack(options{"--cap-add", "ALL"}, "sockets"))
	}
}

// TestCompat makes forbidden calls by the numbers of the 32-bit architecture
// that the machine can also execute.
func TestCompat(t *testing.T) {
	w := newWorld(t)
	for _, goarch := range []string{"", "386"} {
		if goarch != "" {
			w.payload = build(t, w.mkdir("compat"), goarch)
		}
		if out := w.attack(options{"--security-opt", "seccomp=unconfined"}, "compat"); !strings.Contains(out, "keyctl") {
			t.Logf("%s cannot be executed here: %s", goarch, out)
			continue
		} else {
			succeeded(t, "unconfined "+goarch, out)
		}
		out := w.attack(nil, "compat")
		withstood(t, goarch, out)
		if !strings.Contains(out, "keyctl: operation not permitted") {
			t.Errorf("%s: %s", goarch, out)
		}
		withstood(t, "writes to the kernel", w.attack(nil, "attempt", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/kernel/profiling", "/sys/fs/cgroup"))
	}
}
