package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/need"
	"lade/test/harness"
)

// TestIPC: what one container makes in System V IPC, POSIX message queues and
// POSIX shared memory is seen by who joins its namespace, and by nobody else.
func TestIPC(t *testing.T) {
	need.Root(t)
	clients(t, func(t *testing.T, e *harness.Engine, run func(args ...string) string) {
		see := func(flags ...string) string {
			t.Helper()
			return run(append([]string{"run", "--rm"}, probeFlags(t, "see-ipc", flags...)...)...)
		}
		run(append([]string{"run", "-d", "--name", "maker"}, probeFlags(t, "make-ipc", "--ipc", "shareable")...)...)
		for end := time.Now().Add(need.Patience(30 * time.Second)); run("logs", "maker") != "made"; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(run("logs", "maker"))
			}
		}
		const all = "5 3 shm msg sem mqueue posix-shm"
		if got := see("--ipc", "container:maker"); got != all {
			t.Errorf("a container that joined sees %q, want %q", got, all)
		}
		for _, flags := range [][]string{{"--ipc", "private"}, {"--ipc", "shareable"}, {"--ipc", "none"}, {"--ipc", "host"}, {"--pid", "container:maker"}, {"--network", "container:maker"}} {
			if got := see(flags...); got != "0 0" {
				t.Errorf("a container with %s sees %q", strings.Join(flags, " "), got)
			}
		}
		// The host: its own namespace has none of them either.
		host := exec.Command("/proc/self/exe")
		host.Env = []string{probing + "=see-ipc"}
		if out, err := host.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "0 0" {
			t.Errorf("the host sees %q (%v)", out, err)
		}
	})
}

// sharedDir returns a directory that is a shared mount, and one below it that
// is another.
func sharedDir(t *testing.T) (dir, below string) {
	t.Helper()
	dir = t.TempDir()
	mount(t, dir, unix.MS_SHARED)
	below = filepath.Join(dir, "below")
	for _, d := range []string{below, filepath.Join(dir, "n")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount(t, below, unix.MS_SHARED)
	if err := os.Mkdir(filepath.Join(below, "n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir, below
}

// mount puts a tmpfs on dir until the test ends.
func mount(t *testing.T, dir string, propagation uintptr) {
	t.Helper()
	if err := unix.Mount("lade-e2e", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(dir, err)
		}
	})
	if err := unix.Mount("", dir, "", propagation, ""); err != nil {
		t.Fatal(err)
	}
}

// mounted reports whether something is mounted on dir: its device is not that
// of the directory above.
func mounted(t *testing.T, dir string) bool {
	t.Helper()
	var a, b unix.Stat_t
	if err := unix.Stat(dir, &a); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(filepath.Dir(dir), &b); err != nil {
		t.Fatal(err)
	}
	return a.Dev != b.Dev
}

// TestPropagation: which mounts cross a bind, in either direction, at its top
// and below a mount that was there before.
func TestPropagation(t *testing.T) {
	need.Root(t)
	clients(t, func(t *testing.T, e *harness.Engine, run func(args ...string) string) {
		for _, p := range []struct {
			mode    string
			in, out bool
		}{
			{"", false, false}, {"private", false, false}, {"rprivate", false, false}, {"slave", true, false}, {"rslave", true, false},
			{"shared", true, true}, {"rshared", true, true},
		} {
			t.Run(p.mode, func(t *testing.T) {
				dir, below := sharedDir(t)
				bind := dir + ":/m"
				if p.mode != "" {
					bind += ":" + p.mode
				}
				run("run", "-d", "--name", "spread", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "-v", bind, "lade/hello", "sleep", "1000")
				defer run("rm", "-f", "spread")
				for host, inside := range map[string]string{filepath.Join(dir, "n"): "/m/n", filepath.Join(below, "n"): "/m/below/n"} {
					if err := unix.Mount("lade-e2e", host, "tmpfs", 0, "size=1m"); err != nil {
						t.Fatal(err)
					}
					if got := strings.Contains(run("exec", "spread", "cat", "/proc/mounts"), " "+inside+" "); got != p.in {
						t.Errorf("a mount of the host on %s is seen inside: %v", inside, got)
					}
					if err := unix.Unmount(host, 0); err != nil {
						t.Fatal(err)
					}
					run("exec", "spread", "mount", "-t", "tmpfs", "none", inside)
					if got := mounted(t, host); got != p.out {
						t.Errorf("a mount of the container on %s is seen outside: %v", inside, got)
					}
					run("exec", "spread", "umount", inside)
				}
			})
		}
		private := t.TempDir()
		mount(t, private, unix.MS_PRIVATE)
		for mode, want := range map[string]string{"shared": "a shared mount", "rshared": "a shared mount", "slave": "a shared or slave mount", "rslave": "a shared or slave mount"} {
			_, stderr, code := e.Try("run", "--rm", "-v", private+":/m:"+mode, "lade/hello", "true")
			if words := "path " + private + " is mounted on " + private + " but it is not " + want; code != 125 || !strings.Contains(stderr, words) {
				t.Errorf("%s of a private mount: exit code %d, %s; want %q", mode, code, stderr, words)
			}
		}
	})
}

// TestReadOnlyBinds: what a read-only bind means for mounts below it.
func TestReadOnlyBinds(t *testing.T) {
	need.Root(t)
	clients(t, func(t *testing.T, e *harness.Engine, run func(args ...string) string) {
		dir, _ := sharedDir(t)
		const look = "touch /m/x 2>/dev/null && echo top; grep -q ' /m/below ' /proc/mounts && echo mounted; touch /m/below/x 2>/dev/null && echo below; true"
		m := "type=bind,src=" + dir + ",dst=/m"
		for _, c := range []struct{ flag, value, want string }{
			{"-v", dir + ":/m", "top mounted below"},
			{"-v", dir + ":/m:ro", "mounted"},
			{"-v", dir + ":/m:ro,z", "mounted"},
			{"-v", dir + ":/m:Z", "top mounted below"},
			{"--mount", m, "top mounted below"},
			{"--mount", m + ",readonly", "mounted"},
			{"--mount", m + ",readonly,bind-recursive=enabled", "mounted"},
			{"--mount", m + ",readonly,bind-recursive=writable", "mounted below"},
			{"--mount", m + ",readonly,bind-recursive=readonly,bind-propagation=rprivate", "mounted"},
			{"--mount", m + ",bind-recursive=disabled", "top below"},
			{"--mount", m + ",readonly,bind-recursive=disabled", ""},
			{"--mount", m + ",bind-nonrecursive=true", "top below"},
		} {
			if got := strings.Join(strings.Fields(run("run", "--rm", c.flag, c.value, "lade/hello", "sh", "-c", look)), " "); got != c.want {
				t.Errorf("%s %s: %q, want %q", c.flag, c.value, got, c.want)
			}
			os.Remove(filepath.Join(dir, "x"))
		}
		// Before 1.44 a read-only mount was so by itself alone.
		old := e.Command("docker", "run", "--rm", "--mount", m+",readonly", "lade/hello", "sh", "-c", look)
		old.Env = append(old.Env, "DOCKER_API_VERSION=1.43")
		if out, err := old.Output(); err != nil || strings.Join(strings.Fields(string(out)), " ") != "mounted below" {
			t.Errorf("a read-only mount of API 1.43: %q (%v)", out, err)
		}
	})
}

// TestMountsLXC: what binds mean where LXC makes them.
func TestMountsLXC(t *testing.T) {
	need.Root(t)
	need.Program(t, "lxc-start", "Debian's lxc")
	e := harness.Start(t, "--default-runtime", "lxc")
	dir, below := sharedDir(t)
	const look = "touch /m/x 2>/dev/null && echo top; grep -q ' /m/below ' /proc/mounts && echo mounted; touch /m/below/x 2>/dev/null && echo below; true"
	for mode, want := range map[string]string{"": "top mounted below", ":ro": "mounted", ":ro,rslave": "mounted"} {
		for _, ids := range []string{"host", "auto"} {
			got := strings.Join(strings.Fields(e.Run("run", "--rm", "--userns", ids, "-v", dir+":/m"+mode, "lade/hello", "sh", "-c", look)), " ")
			if ids == "auto" && mode == "" {
				want = "mounted" // the files are root's, who is nobody there
			}
			if got != want {
				t.Errorf("--userns %s -v …%s: %q, want %q", ids, mode, got, want)
			}
		}
	}
	for _, mode := range []string{"", "rslave"} {
		e.Run("run", "-d", "--name", "spread", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "-v", strings.TrimSuffix(dir+":/m:"+mode, ":"), "lade/hello", "sleep", "1000")
		n := filepath.Join(below, "n")
		if err := unix.Mount("lade-e2e", n, "tmpfs", 0, "size=1m"); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(e.Run("exec", "spread", "cat", "/proc/mounts"), " /m/below/n "); got != (mode == "rslave") {
			t.Errorf("%q: a mount of the host is seen inside: %v", mode, got)
		}
		if err := unix.Unmount(n, 0); err != nil {
			t.Fatal(err)
		}
		e.Run("exec", "spread", "mount", "-t", "tmpfs", "none", "/m/below/n")
		if mounted(t, n) {
			t.Errorf("%q: a mount of the container is seen outside", mode)
		}
		e.Run("rm", "-f", "spread")
	}
	for _, flags := range [][]string{{"-v", dir + ":/m:rshared"}, {"--mount", "type=bind,src=" + dir + ",dst=/m,bind-propagation=shared"}} {
		_, stderr, code := e.Try(append(append([]string{"run", "--rm"}, flags...), "lade/hello", "true")...)
		if code != 125 || !strings.Contains(stderr, "runtime lxc cannot do this: a bind whose mounts spread to the host") {
			t.Errorf("%v: exit code %d, %s", flags, code, stderr)
		}
	}
}

// TestNamespaceDefaults: what the daemon's options say for containers that say
// nothing.
func TestNamespaceDefaults(t *testing.T) {
	need.Root(t)
	e := harness.Start(t, "--default-ipc-mode", "shareable", "--default-cgroupns-mode", "host", "--default-shm-size", "3m")
	e.Run("run", "-d", "--name", "plain", "lade/hello", "sleep", "1000")
	e.Run("exec", "plain", "touch", "/dev/shm/here")
	e.Run("run", "--rm", "--ipc", "container:plain", "lade/hello", "stat", "/dev/shm/here")
	if got := e.Run("run", "--rm", "lade/hello", "cat", "/proc/self/cgroup"); !strings.Contains(got, e.Group()) {
		t.Errorf("the control groups of the host are not shown: %s", got)
	}
	if got := e.Run("run", "--rm", "--cgroupns", "private", "lade/hello", "cat", "/proc/self/cgroup"); strings.Contains(got, e.Group()) {
		t.Errorf("the control groups of the host are shown: %s", got)
	}
	if got := e.Run("exec", "plain", "df", "-k", "/dev/shm"); !strings.Contains(got, " "+strconv.Itoa(3<<10)+" ") {
		t.Errorf("the size of /dev/shm: %s", got)
	}
}
