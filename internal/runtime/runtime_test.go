package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/caps"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/pidfd"
	"lade/internal/need"
)

// payload is where a container of the tests sees the test binary.
const payload = "/bin/payload"

// TestMain makes the test binary the program of the containers that the tests
// start: its first argument says what to do.
func TestMain(m *testing.M) {
	if os.Args[0] == payload || os.Args[0] == "payload" {
		os.Exit(inContainer(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// sandbox is a launcher with a root directory for its containers.
type sandbox struct {
	t    testing.TB
	l    *Launcher
	root string // an image: a directory
	dir  string // for everything else
	host *cgroup.Host
}

var serial atomic.Int64

func newSandbox(t testing.TB) *sandbox {
	t.Helper()
	need.Root(t)
	l, err := NewLauncher(Options{Threads: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	dir := t.TempDir()
	// Other users must get in: containers do not run as root only.
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := &sandbox{t: t, l: l, dir: dir, root: filepath.Join(dir, "image"), host: l.groups}
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", "run", "var", "home/app", "odd"} {
		s.mkdir("image/" + d)
	}
	if err := os.Chmod(s.root+"/odd", 0o1711); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	s.file("image"+payload, string(b), 0o755)
	s.file("image/etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n", 0o644)
	s.file("image/etc/group", "root:x:0:root\nbin:x:1:root\napp:x:1001:\nvideo:x:44:app\n", 0o644)
	s.file("image/etc/data", "not a program", 0o644)
	s.file("image/bin/garbage", "\x00\x01\x02garbage", 0o755)
	s.file("image/bin/script", "#!/no/such/interpreter\n", 0o755)
	for name, target := range map[string]string{"var/run": "/run", "abslink": "/etc/data", "self": "/proc/self/exe"} {
		if err := os.Symlink(target, filepath.Join(s.root, name)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *sandbox) mkdir(name string) string {
	s.t.Helper()
	p := filepath.Join(s.dir, name)
	if err := os.MkdirAll(p, 0o755); err != nil {
		s.t.Fatal(err)
	}
	return p
}

func (s *sandbox) file(name, content string, mode os.FileMode) string {
	s.t.Helper()
	p := filepath.Join(s.dir, name)
	if err := os.WriteFile(p, []byte(content), mode); err != nil {
		s.t.Fatal(err)
	}
	return p
}

func dockerCaps() []string { return caps.Set(0xa80425fb).Names() }

// container returns what Docker would ask for: an overlay, every namespace, all
// its mounts and masks.
func (s *sandbox) container(args ...string) *Container {
	s.t.Helper()
	id := fmt.Sprintf("ladetest-%d-%d", os.Getpid(), serial.Add(1))
	up := "ctr/" + id
	c := dockerLike(id, args...)
	c.Rootfs = Rootfs{Lower: []string{s.root}, Upper: s.mkdir(up + "/upper"), Work: s.mkdir(up + "/work"), Volatile: true}
	return c
}

func dockerLike(id string, args ...string) *Container {
	all := dockerCaps()
	return &Container{
		ID: id, NetNS: -1, Stdin: -1, Stdout: -1, Stderr: -1,
		Spec: &specs.Spec{
			Root:     &specs.Root{},
			Hostname: "box",
			Process: &specs.Process{
				Args: append([]string{payload}, args...), Cwd: "/",
				Env:          []string{"PATH=/usr/local/bin:/bin"},
				Capabilities: &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all},
			},
			Mounts: []specs.Mount{
				{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
				{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
				{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
				{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
				{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
				{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
				{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=67108864"}},
			},
			Linux: &specs.Linux{
				CgroupsPath: "/" + id,
				Namespaces: []specs.LinuxNamespace{
					{Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.UTSNamespace},
					{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.CgroupNamespace},
				},
				MaskedPaths: []string{"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
					"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"},
				ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
			},
		},
	}
}

// running is a started container whose output is collected.
type running struct {
	*Process
	s   *sandbox
	out *os.File // read side of its standard output and error
}

// start starts c with a pipe as its output.
func (s *sandbox) start(c *Container) (*running, error) {
	s.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	defer w.Close()
	c.Stdout, c.Stderr = int(w.Fd()), int(w.Fd())
	p, err := s.l.Start(s.t.Context(), c)
	if err != nil {
		r.Close()
		return nil, err
	}
	run := &running{p, s, r}
	s.t.Cleanup(run.end)
	return run, nil
}

// wait returns what the process wrote and its exit code.
func (r *running) wait() (string, int) {
	r.s.t.Helper()
	b, err := io.ReadAll(r.out)
	if err != nil {
		r.s.t.Error(err)
	}
	code, _, err := pidfd.Wait(r.Pidfd)
	if err != nil {
		r.s.t.Error(err)
	}
	return string(b), code
}

// end kills what still runs and removes the rest.
func (r *running) end() {
	t := r.s.t
	if r.Pidfd < 0 {
		return
	}
	_ = pidfd.Signal(r.Pidfd, unix.SIGKILL)
	_, _, _ = pidfd.Wait(r.Pidfd)
	unix.Close(r.Pidfd)
	r.Pidfd = -1
	r.out.Close()
	if r.Console >= 0 {
		unix.Close(r.Console)
	}
	if r.Cgroup != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := r.Cgroup.Delete(ctx); err != nil && !errors.Is(err, errdefs.NotFound) {
			t.Error(err)
		}
	}
}

// run starts c, waits and returns output and exit code.
func (s *sandbox) run(c *Container) (string, int) {
	s.t.Helper()
	r, err := s.start(c)
	if err != nil {
		s.t.Fatalf("start: %v", err)
	}
	out, code := r.wait()
	r.end()
	return out, code
}

// report runs the payload's report in c and returns what it says.
func (s *sandbox) report(c *Container) *report {
	s.t.Helper()
	out, code := s.run(c)
	if code != 0 {
		s.t.Fatalf("exit code %d, output %q", code, out)
	}
	return parseReport(s.t, out)
}

func parseReport(t testing.TB, out string) *report {
	t.Helper()
	var r report
	if err := json.NewDecoder(bytes.NewReader([]byte(out))).Decode(&r); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	return &r
}

func TestStart(t *testing.T) {
	s := newSandbox(t)
	c := s.container("report")
	r := s.report(c)
	if r.Pid != 1 || r.Sid != 1 || r.Pgid != 1 || r.Hostname != "box" || r.Cwd != "/" {
		t.Errorf("pid %d, session %d, group %d, hostname %q, cwd %q", r.Pid, r.Sid, r.Pgid, r.Hostname, r.Cwd)
	}
	for _, n := range []string{"mnt", "net", "uts", "pid", "ipc", "cgroup"} {
		mine, err := os.Readlink("/proc/self/ns/" + n)
		if err != nil {
			t.Fatal(err)
		}
		if r.Namespaces[n] == mine || r.Namespaces[n] == "" {
			t.Errorf("namespace %s: %s", n, r.Namespaces[n])
		}
	}
	if mine, _ := os.Readlink("/proc/self/ns/user"); r.Namespaces["user"] != mine {
		t.Errorf("user namespace %s", r.Namespaces["user"])
	}
	for key, want := range map[string]string{
		"CapBnd": "00000000a80425fb", "CapPrm": "00000000a80425fb", "CapEff": "00000000a80425fb", "CapInh": "0000000000000000", "CapAmb": "0000000000000000",
		"NoNewPrivs": "0", "Seccomp": "0", "SigBlk": "0000000000000000", "SigIgn": "0000000000000000", "Umask": "0022",
		"Uid": "0 0 0 0", "Gid": "0 0 0 0", "Groups": "0 1",
	} {
		if got := strings.Join(strings.Fields(r.Status[key]), " "); got != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
	if !slices.Equal(r.FDs, []string{"0", "1", "2"}) {
		t.Errorf("descriptors %v", r.FDs)
	}
	if !slices.Contains(r.Env, "HOME=/root") {
		t.Errorf("environment %v", r.Env)
	}
	for dest, want := range map[string]string{
		"/": "overlay", "/proc": "proc", "/dev": "tmpfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs", "/dev/mqueue": "mqueue", "/sys": "sysfs",
	} {
		if m := r.Mounts[dest]; m.Type != want {
			t.Errorf("mount %s: %+v", dest, m)
		}
	}
	if m := r.Mounts["/sys"]; !slices.Contains(m.Options, "ro") || !slices.Contains(m.Options, "nosuid") {
		t.Errorf("/sys: %+v", m)
	}
	for _, p := range []string{"/proc/bus", "/proc/irq", "/proc/sys"} {
		if m := r.Mounts[p]; !slices.Contains(m.Options, "ro") {
			t.Errorf("%s is not read-only: %+v", p, m)
		}
	}
	for p, kind := range map[string]string{"/proc/timer_list": "file", "/proc/interrupts": "file", "/sys/firmware": "dir"} {
		if _, err := os.Stat(p); err != nil {
			continue
		}
		if m := r.Mounts[p]; m.Type == "" || kind == "dir" && !slices.Contains(m.Options, "ro") {
			t.Errorf("%s is not hidden: %+v", p, m)
		}
	}
	if len(r.Links) != 1 || r.Links[0] != "lo up" {
		t.Errorf("links %v", r.Links)
	}
	if len(r.Cgroups) == 0 {
		t.Error("no control groups in /sys/fs/cgroup")
	}
	for _, g := range r.Cgroups {
		if !strings.HasSuffix(g, ":/") {
			t.Errorf("control group %s: the namespace begins elsewhere", g)
		}
	}
	// Nothing of the host is mounted.
	for dest, m := range r.Mounts {
		if strings.Contains(m.Root, "..") || m.Type == "ext4" {
			t.Errorf("%s: %+v", dest, m)
		}
	}
}
