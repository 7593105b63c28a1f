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
	if err := os.Chmod(s.root+"/odd", os.ModeSticky|0o711); err != nil {
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
	for _, f := range []string{"resolv.conf", "hosts", "hostname"} {
		s.file("image/etc/"+f, "", 0o644)
	}
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
	if r.out != nil {
		r.out.Close()
	}
	if r.Console >= 0 {
		unix.Close(r.Console)
	}
	if r.Cgroup != nil {
		ctx, cancel := context.WithTimeout(context.Background(), need.Patience(30*time.Second))
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

// tries runs the payload's try verbs and returns what each printed.
func (s *sandbox) tries(c *Container, what ...string) map[string]string {
	s.t.Helper()
	c.Spec.Process.Args = append([]string{payload, "try"}, what...)
	out, code := s.run(c)
	if code != 0 {
		s.t.Fatalf("exit code %d, output %q", code, out)
	}
	got := map[string]string{}
	for line := range strings.Lines(out) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), ": ")
		got[k] = v
	}
	return got
}

func expect(t *testing.T, got map[string]string, want map[string]string) {
	t.Helper()
	for k, w := range want {
		if got[k] != w {
			t.Errorf("%s: %q, want %q", k, got[k], w)
		}
	}
}

// TestProcess checks what the spec says about the process itself.
func TestProcess(t *testing.T) {
	s := newSandbox(t)
	c := s.container("report")
	c.User = "app"
	c.GroupAdd = []string{"bin"}
	umask := uint32(0o077)
	score := 321
	c.Spec.Process.User.Umask = &umask
	c.Spec.Process.OOMScoreAdj = &score
	c.Spec.Process.Cwd = "/work/made/here"
	c.Spec.Process.NoNewPrivileges = true
	c.Spec.Process.Env = append(c.Spec.Process.Env, "A=b", "HOME=")
	c.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 0}}
	c.Spec.Domainname = "dom.example"
	c.Spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "5", "kernel.shm_rmid_forced": "1"}
	c.Filter = defaultFilter(t)
	r := s.report(c)
	for key, want := range map[string]string{
		"Uid": "1000 1000 1000 1000", "Gid": "1001 1001 1001 1001", "Groups": "1 44 1001",
		"CapBnd": "00000000a80425fb", "CapPrm": "0000000000000000", "CapEff": "0000000000000000",
		"NoNewPrivs": "1", "Seccomp": "2", "Seccomp_filters": "1", "Umask": "0077",
	} {
		if got := strings.Join(strings.Fields(r.Status[key]), " "); got != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
	if r.Cwd != "/work/made/here" || r.OOMScore != "321" {
		t.Errorf("cwd %q, oom_score_adj %q", r.Cwd, r.OOMScore)
	}
	if got := r.Limits["Max open files"]; got != "100 200 files" && got != "199 200 files" { // the Go runtime raises it
		t.Errorf("open files %q", got)
	}
	if got := r.Limits["Max core file size"]; got != "0 0 bytes" {
		t.Errorf("core %q", got)
	}
	if !slices.Contains(r.Env, "HOME=/home/app") || !slices.Contains(r.Env, "A=b") || slices.Contains(r.Env, "HOME=") {
		t.Errorf("environment %v", r.Env)
	}

	c = s.container()
	c.Spec.Domainname = "dom.example"
	c.Spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "5", "kernel.shm_rmid_forced": "1"}
	expect(t, s.tries(c, "read=/proc/sys/kernel/domainname", "read=/proc/sys/net/ipv4/ip_unprivileged_port_start", "read=/proc/sys/kernel/shm_rmid_forced"),
		map[string]string{
			"read=/proc/sys/kernel/domainname": "dom.example", "read=/proc/sys/net/ipv4/ip_unprivileged_port_start": "5", "read=/proc/sys/kernel/shm_rmid_forced": "1",
		})
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err != nil || strings.TrimSpace(string(b)) == "5" {
		t.Error("the host's sysctl was changed")
	}

	// Numbers of the spec, ambient capabilities.
	c = s.container("report")
	c.SpecUser = true
	c.Spec.Process.User = specs.User{UID: 77, GID: 88, AdditionalGids: []uint32{5, 6}}
	pc := c.Spec.Process.Capabilities
	pc.Inheritable, pc.Ambient = []string{"CAP_NET_RAW"}, []string{"CAP_NET_RAW"}
	r = s.report(c)
	for key, want := range map[string]string{"Uid": "77 77 77 77", "Gid": "88 88 88 88", "Groups": "5 6", "CapAmb": "0000000000002000", "CapEff": "0000000000002000"} {
		if got := strings.Join(strings.Fields(r.Status[key]), " "); got != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
	if !slices.Contains(r.Env, "HOME=/") {
		t.Errorf("environment %v", r.Env)
	}
}

func TestExitCode(t *testing.T) {
	s := newSandbox(t)
	for _, tc := range []struct {
		args []string
		code int
	}{{[]string{"exit", "0"}, 0}, {[]string{"exit", "42"}, 42}, {[]string{"exit", "255"}, 255}} {
		if out, code := s.run(s.container(tc.args...)); code != tc.code {
			t.Errorf("%v: exit code %d, output %q", tc.args, code, out)
		}
	}
	r, err := s.start(s.container("sleep"))
	if err != nil {
		t.Fatal(err)
	}
	if err := pidfd.Signal(r.Pidfd, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if _, code := r.wait(); code != 137 {
		t.Errorf("killed: %d", code)
	}
	r, err = s.start(s.container("signals"))
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 10)
	if _, err := r.out.Read(b); err != nil {
		t.Error(err)
	}
	if err := pidfd.Signal(r.Pidfd, unix.SIGTERM); err != nil {
		t.Error(err)
	}
	if _, code := r.wait(); code != 7 {
		t.Errorf("a handled signal: %d", code)
	}
}

// TestCommandErrors checks the words and codes for what cannot be executed.
func TestCommandErrors(t *testing.T) {
	s := newSandbox(t)
	for _, tc := range []struct {
		args []string
		path string
		code int
		text string
	}{
		{[]string{"nope"}, "", 127, `exec: "nope": executable file not found in $PATH`},
		{[]string{"/nope"}, "", 127, `exec: "/nope": stat /nope: no such file or directory`},
		{[]string{"./nope"}, "", 127, `exec: "./nope": stat ./nope: no such file or directory`},
		{[]string{"/etc/passwd"}, "", 126, `exec: "/etc/passwd": permission denied`},
		{[]string{"/etc"}, "", 126, `exec: "/etc": is a directory: permission denied`},
		{[]string{"/etc/passwd/x"}, "", 126, `exec: "/etc/passwd/x": not a directory`},
		{[]string{"/bin/garbage"}, "", 126, `exec: "/bin/garbage": exec format error`},
		{[]string{"/bin/script"}, "", 127, `exec /bin/script: no such file or directory`},
		{[]string{"passwd"}, "/nowhere:/etc:/bin", 126, `exec: "passwd": permission denied`},
		{[]string{"/self"}, "", 126, `exec: "/self": too many levels of symbolic links`},
		{[]string{"/proc/self/exe"}, "", 126, `exec: "/proc/self/exe": too many levels of symbolic links`},
		{[]string{"exe"}, "/bin:/proc/self", 126, `exec: "exe": too many levels of symbolic links`},
		{[]string{""}, "", 127, `exec: "": executable file not found in $PATH`},
	} {
		c := s.container()
		c.Spec.Process.Args = tc.args
		if tc.path != "" {
			c.Spec.Process.Env = []string{"PATH=" + tc.path}
		}
		r, err := s.start(c)
		if err == nil {
			t.Errorf("%q started", tc.args)
			r.end()
			continue
		}
		e, ok := errors.AsType[*StartError](err)
		if !ok || e.Code != tc.code || err.Error() != tc.text {
			t.Errorf("%q: %#v %q, want %d %q", tc.args, e, err, tc.code, tc.text)
		}
		if errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%q: kind %v", tc.args, errdefs.KindOf(err))
		}
		if _, err := s.host.Open(c.Spec.Linux.CgroupsPath); err == nil {
			t.Errorf("%q: the control group is left behind", tc.args)
		}
	}
	// The search goes on after what cannot be executed, and is relative to the
	// working directory where PATH is.
	for _, path := range []string{"/etc:/nowhere:/bin", "", "bin"} {
		c := s.container("exit", "5")
		c.Spec.Process.Args[0] = "payload"
		c.Spec.Process.Env = []string{"PATH=" + path}
		if path == "" {
			c.Spec.Process.Cwd = "/bin"
		}
		if _, code := s.run(c); code != 5 {
			t.Errorf("PATH=%s: exit code %d", path, code)
		}
	}
}

func TestRequestErrors(t *testing.T) {
	s := newSandbox(t)
	for _, tc := range []struct {
		name string
		edit func(*Container)
		code int
		text string
	}{
		{"user", func(c *Container) { c.User = "nouser" }, 0, "unable to find user nouser: no matching entries in passwd file"},
		{"group", func(c *Container) { c.User = "app:nogroup" }, 0, "unable to find group nogroup: no matching entries in group file"},
		{"limit", func(c *Container) {
			c.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 9, Hard: 1 << 40}}
		}, 128, "error setting rlimits for ready process: error setting rlimit type 7: operation not permitted"},
		{"source", func(c *Container) {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/no/such", Options: []string{"rbind"}})
		}, 128, `error mounting "/no/such" to rootfs at "/x": no such file or directory`},
		{"type", func(c *Container) {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/x", Type: "nosuchfs", Source: "a"})
		}, 128, `error mounting "a" to rootfs at "/x": no such device`},
		{"option", func(c *Container) {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/x", Type: "tmpfs", Source: "tmpfs", Options: []string{"bogus=1"}})
		}, 128, `error mounting "tmpfs" to rootfs at "/x": fsconfig bogus=1: invalid argument`},
		{"directory on file", func(c *Container) {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/etc/data", Type: "bind", Source: "/tmp", Options: []string{"rbind"}})
		}, 127, `error mounting "/tmp" to rootfs at "/etc/data": openat2 /etc/data: not a directory: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type`},
		{"file on directory", func(c *Container) {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/etc", Type: "bind", Source: "/etc/hosts", Options: []string{"rbind"}})
		}, 127, `error mounting "/etc/hosts" to rootfs at "/etc": move_mount /etc: not a directory: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type`},
		{"cwd", func(c *Container) { c.Spec.Process.Cwd = "/etc/data" }, 127, `mkdir "/etc/data": not a directory`},
		{"sysctl", func(c *Container) { c.Spec.Linux.Sysctl = map[string]string{"net.no.such": "1"} }, 128, `write sysctl key net.no.such: open /proc/sys/net/no/such: no such file or directory`},
		{"namespace", func(c *Container) { c.Spec.Linux.Namespaces[1].Path = "/no/such" }, 128, `namespace path: /no/such: no such file or directory`},
		{"not a namespace", func(c *Container) { c.Spec.Linux.Namespaces[1].Path = "/dev/null" }, 128, `error joining namespaces: setns /dev/null: invalid argument`},
	} {
		c := s.container()
		tc.edit(c)
		r, err := s.start(c)
		if err == nil {
			t.Errorf("%s: started", tc.name)
			r.end()
			continue
		}
		if k := errdefs.KindOf(err); (k == errdefs.Invalid) != (tc.code == 127) {
			t.Errorf("%s: kind %v", tc.name, k)
		}
		e, ok := errors.AsType[*StartError](err)
		if !ok || e.Code != tc.code || tc.text != "" && err.Error() != tc.text {
			t.Errorf("%s: %+v %q, want %d %q", tc.name, e, err, tc.code, tc.text)
		}
		if _, err := s.host.Open(c.Spec.Linux.CgroupsPath); err == nil {
			t.Errorf("%s: the control group is left behind", tc.name)
		}
	}
	for _, edit := range []func(*Container){
		func(c *Container) { c.Spec.Process.Args = nil },
		func(c *Container) { c.Spec.Process.Cwd = "relative" },
		func(c *Container) { c.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_X"}} },
		func(c *Container) { c.Spec.Process.Env = []string{"A=\x00"} },
		func(c *Container) { c.Spec.Linux.Namespaces = nil },
		func(c *Container) { c.Spec.Mounts[0].Destination = "/" },
	} {
		c := s.container()
		edit(c)
		if _, err := s.start(c); !errors.Is(err, errdefs.Invalid) {
			t.Errorf("%v", err)
		}
	}
	c := s.container()
	c.Spec.Process.Args = append(c.Spec.Process.Args, strings.Repeat("x", 200<<10))
	if _, err := s.start(c); !errors.Is(err, unix.E2BIG) {
		t.Errorf("a long argument: %v", err)
	}
}
