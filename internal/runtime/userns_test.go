package runtime

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/caps"
	"lade/internal/linux/idmap"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/sys"
)

// base is the first id of the range that the tests map.
const base = 700000

// withUser gives c a user namespace.
func withUser(c *Container) *Container {
	m := idmap.Range(base, base+100000, 65536)
	c.Spec.Linux.Namespaces = append(c.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	c.Spec.Linux.UIDMappings, c.Spec.Linux.GIDMappings = m.UID, m.GID
	return c
}

// owner returns who owns a file on the host.
func owner(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid)
}

// TestUserNamespace shows that root inside is nobody outside, and that layers
// and id-mapped mounts are stored with the ids of inside.
func TestUserNamespace(t *testing.T) {
	s := newSandbox(t)
	secret := s.mkdir("secret")
	s.file("secret/key", "secret", 0o600)
	volume := s.mkdir("volume")
	s.file("volume/key", "mine", 0o600)
	open := s.mkdir("open")
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	c := withUser(s.container("report"))
	rep := s.report(c)
	for key, want := range map[string]string{"Uid": "0 0 0 0", "Gid": "0 0 0 0", "CapEff": "00000000a80425fb", "CapBnd": "00000000a80425fb", "NoNewPrivs": "0"} {
		if got := strings.Join(strings.Fields(rep.Status[key]), " "); got != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
	if rep.Pid != 1 || rep.Hostname != "box" || !slices.Equal(rep.FDs, []string{"0", "1", "2"}) || !slices.Equal(rep.Links, []string{"lo up"}) {
		t.Errorf("%+v", rep)
	}
	if mine, _ := os.Readlink("/proc/self/ns/user"); rep.Namespaces["user"] == mine {
		t.Error("the host's user namespace")
	}
	for _, g := range rep.Cgroups {
		if !strings.HasSuffix(g, ":/") {
			t.Errorf("control group %s", g)
		}
	}

	c = withUser(s.container("try",
		"write=/file", "chown=/file", "stat=/file", "mkdir=/dir/", "stat=/bin/payload", "stat=/dev/null", "stat=/dev", "append=/dev/null",
		"write=/dev/shm/x", "stat=/dev/shm/x", "mknod=/dev/disk", "tmpfs=/tmp", "append=/proc/sys/kernel/hostname", "read=/proc/sys/kernel/hostname",
		"write=/proc/sys/net/ipv4/ip_forward", "read=/secret/key", "write=/secret/new", "read=/volume/key", "write=/volume/new", "chown=/volume/new", "write=/open/new", "stat=/open/new",
		"list=/proc/acpi", "raw=", "address=lo", "read=/proc/self/uid_map", "stat=/proc/self", "read=/sys/class/net/lo/flags"))
	bind := func(source, dest string, more ...string) {
		c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: dest, Type: "bind", Source: source, Options: append([]string{"rbind", "rprivate"}, more...)})
	}
	bind(secret, "/secret")
	bind(volume, "/volume", "idmap")
	bind(open, "/open")
	out, code := s.run(c)
	if code != 0 {
		t.Fatalf("%d %q", code, out)
	}
	got := map[string]string{}
	for line := range strings.Lines(out) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), ": ")
		got[k] = v
	}
	expect(t, got, map[string]string{
		"write=/file": "ok", "chown=/file": "ok", "stat=/file": "100644 0:0 33:34", "stat=/bin/payload": "100755 0:0 0:0",
		"stat=/dev/null": "20666 1:3 0:0", "stat=/dev": "40755 0:0 0:0", "append=/dev/null": "ok",
		"write=/dev/shm/x": "ok", "stat=/dev/shm/x": "100644 0:0 0:0",
		"mknod=/dev/disk": "error operation not permitted", "tmpfs=/tmp": "error operation not permitted",
		"append=/proc/sys/kernel/hostname": "error open /proc/sys/kernel/hostname: permission denied", "read=/proc/sys/kernel/hostname": "box",
		"read=/secret/key": "error open /secret/key: permission denied", "write=/secret/new": "error open /secret/new: permission denied",
		"read=/volume/key": "mine", "write=/volume/new": "ok", "chown=/volume/new": "ok", "write=/open/new": "ok", "stat=/open/new": "100644 0:0 0:0",
		"list=/proc/acpi": "0", "raw=": "ok", "address=lo": "error operation not permitted", "stat=/proc/self": "40555 0:0 0:0",
	})
	for path, want := range map[string]string{
		c.Rootfs.Upper + "/file": "33:34", volume + "/new": "33:34", volume + "/key": "0:0",
		open + "/new": fmt.Sprintf("%d:%d", base, base+100000), s.root + payload: "0:0",
	} {
		if have := owner(t, path); have != want {
			t.Errorf("%s belongs to %s on the host, want %s", path, have, want)
		}
	}
}

// TestUserOutside looks at a container's root from the host, and lets it try
// what only the host's root may.
func TestUserOutside(t *testing.T) {
	s := newSandbox(t)
	r, err := s.start(withUser(s.container("sleep")))
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile("/proc/" + strconv.Itoa(r.Pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("Uid:\t%d\t%d\t%d\t%d\n", base, base, base, base); !strings.Contains(string(status), want) {
		t.Errorf("want %q in %s", want, status)
	}
	// With every capability inside, and in the host's pid namespace.
	victim, err := s.start(s.container("sleep"))
	if err != nil {
		t.Fatal(err)
	}
	ro := s.mkdir("ro")
	c := withUser(s.container("try", "kill="+strconv.Itoa(victim.Pid), "tmpfs=/tmp", "mknod=/tmp/disk", "setns=/proc/"+strconv.Itoa(victim.Pid)+"/ns/mnt",
		"read=/proc/"+strconv.Itoa(victim.Pid)+"/environ", "address=lo", "write=/proc/sys/kernel/core_pattern"))
	c.Spec.Linux.Namespaces = slices.DeleteFunc(c.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
	c.Spec.Linux.ReadonlyPaths = nil
	c.Spec.Mounts[0] = specs.Mount{Destination: "/proc", Type: "bind", Source: "/proc", Options: []string{"rbind"}}
	c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/ro", Type: "bind", Source: ro, Options: []string{"bind", "ro"}})
	all := caps.Set(1<<(s.l.host.lastCap+1) - 1).Names()
	c.Spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
	out, code := s.run(c)
	if code != 0 {
		t.Fatalf("%d %q", code, out)
	}
	got := map[string]string{}
	for line := range strings.Lines(out) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), ": ")
		got[k] = v
	}
	pid := strconv.Itoa(victim.Pid)
	expect(t, got, map[string]string{
		"kill=" + pid: "error operation not permitted", "tmpfs=/tmp": "ok", "mknod=/tmp/disk": "error operation not permitted",
		"setns=/proc/" + pid + "/ns/mnt":      "error permission denied",
		"read=/proc/" + pid + "/environ":      "error open /proc/" + pid + "/environ: permission denied",
		"address=lo":                          "ok", // of its own network namespace
		"write=/proc/sys/kernel/core_pattern": "error open /proc/sys/kernel/core_pattern: permission denied",
	})
}

// TestUserNetwork gives a container a network namespace of the host's root: it
// has no rights there; and one that belongs to its user namespace.
func TestUserNetwork(t *testing.T) {
	s := newSandbox(t)
	all := caps.Set(1<<(s.l.host.lastCap+1) - 1).Names()
	tries := func(c *Container) map[string]string {
		c.Spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
		return s.tries(c, "raw=", "address=lo", "read=/sys/class/net/lo/flags")
	}
	c := withUser(s.container())
	c.NetNS = netns(t)
	expect(t, tries(c), map[string]string{"raw=": "error operation not permitted", "address=lo": "error operation not permitted", "read=/sys/class/net/lo/flags": "0x8"})
	c = withUser(s.container())
	user, net, err := s.l.NewUser(t.Context(), idmap.Map{UID: c.Spec.Linux.UIDMappings, GID: c.Spec.Linux.GIDMappings}, true)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(user)
	defer unix.Close(net)
	c.UserNS, c.NetNS = user, net
	expect(t, tries(c), map[string]string{"raw=": "ok", "address=lo": "ok", "read=/sys/class/net/lo/flags": "0x9"})
}

func TestUserExec(t *testing.T) {
	s := newSandbox(t)
	c := withUser(s.container("sleep"))
	r, err := s.start(c)
	if err != nil {
		t.Fatal(err)
	}
	proc := *c.Spec.Process
	proc.Args = []string{"payload", "report"}
	out, code := s.exec(r, &Exec{Process: &proc, User: "app", Filter: defaultFilter(t)})
	if code != 0 {
		t.Fatalf("%d %q", code, out)
	}
	rep := parseReport(t, out)
	if got := strings.Join(strings.Fields(rep.Status["Uid"]), " "); got != "1000 1000 1000 1000" || rep.Status["CapBnd"] != "00000000a80425fb" {
		t.Errorf("%+v", rep.Status)
	}
	for _, n := range []string{"user", "mnt", "net", "uts", "pid", "ipc", "cgroup"} {
		if want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", r.Pid, n)); err != nil || rep.Namespaces[n] != want {
			t.Errorf("namespace %s is %s, the container's %s", n, rep.Namespaces[n], want)
		}
	}
	proc.Args = []string{"payload", "try", "write=/dev/stdout", "write=/made", "stat=/made"}
	if out, code = s.exec(r, &Exec{Process: &proc}); code != 0 || !strings.Contains(out, "stat=/made: 100644 0:0 0:0") || strings.Contains(out, "error") {
		t.Errorf("%d %q", code, out)
	}
	if got := owner(t, c.Rootfs.Upper+"/made"); got != "0:0" {
		t.Errorf("stored as %s", got)
	}
	proc.Args = []string{"payload", "try", "read=/bin/payload"}
	if _, err := s.l.Exec(t.Context(), &Exec{Pid: r.Pid, Pidfd: r.Pidfd, Cgroup: r.Cgroup, Process: &proc, User: "70000", Stdin: -1, Stdout: -1, Stderr: -1}); !errors.Is(err, errdefs.Invalid) {
		t.Errorf("a user that is not mapped: %v", err)
	}
}

// TestUserLimits: limits above the host's own are for its root to give, also to a
// container whose root is not.
func TestUserLimits(t *testing.T) {
	s := newSandbox(t)
	if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_RESOURCE, 0, 0, 0); err != nil || has == 0 {
		t.Skip("this machine's root has no CAP_SYS_RESOURCE:", err)
	}
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &own); err != nil {
		t.Fatal(err)
	}
	low := unix.Rlimit{Cur: 4096, Max: 4096}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &low); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &own); err != nil {
			t.Error(err)
		}
	})
	c := withUser(s.container("sleep"))
	c.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_MEMLOCK", Soft: 8192, Hard: 16384}}
	r, err := s.start(c)
	if err != nil {
		t.Fatal(err)
	}
	proc := *c.Spec.Process
	proc.Args = []string{"payload", "report"}
	out, code := s.exec(r, &Exec{Process: &proc})
	if code != 0 {
		t.Fatalf("%d %q", code, out)
	}
	if got := parseReport(t, out).Limits["Max locked memory"]; got != "8192 16384 bytes" {
		t.Errorf("an exec has %q", got)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", r.Pid))
	if err != nil || !regexp.MustCompile(`(?m)^Max locked memory +8192 +16384 +bytes`).Match(limits) {
		t.Errorf("the container has %v\n%s", err, limits)
	}
}

func TestUserTerminal(t *testing.T) {
	s := newSandbox(t)
	for _, user := range []string{"", "app"} {
		c := withUser(s.container("report"))
		c.User = user
		c.Spec.Process.Terminal = true
		p, err := s.l.Start(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		r := &running{p, s, nil}
		rep := parseReport(t, readAll(p.Console))
		_, _, _ = pidfd.Wait(p.Pidfd)
		r.end()
		if !rep.CTTY || rep.Fg != 1 {
			t.Errorf("user %q: %+v", user, rep)
		}
	}
	c := withUser(s.container("try", "stat=/dev/console", "stat=/dev/pts/0", "stat=/dev/pts", "stat=/dev/pts/ptmx", "write=/dev/tty"))
	c.User, c.Spec.Process.Terminal = "app", true
	p, err := s.l.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{p, s, nil}
	out := readAll(p.Console)
	_, _, _ = pidfd.Wait(p.Pidfd)
	r.end()
	for _, want := range []string{"stat=/dev/console: 20620 136:0 1000:5", "stat=/dev/pts/0: 20620 136:0 1000:5", "stat=/dev/pts: 40755 0:0 0:0", "write=/dev/tty: ok"} {
		if !strings.Contains(out, want) {
			t.Errorf("want %q in %q", want, out)
		}
	}
}

// TestUserAttached mounts the layers as kernels before Linux 6.15 want it.
func TestUserAttached(t *testing.T) {
	s := newSandbox(t)
	s.l.attachLayers.Store(true)
	for _, modern := range []bool{true, false} {
		known := s.l.host.features()
		known.LowerdirAppend = modern
		s.l.host.features = func() sys.Features { return known }
		c := withUser(s.container())
		expect(t, s.tries(c, "write=/file", "stat=/file", "stat=/bin/payload"), map[string]string{
			"write=/file": "ok", "stat=/file": "100644 0:0 0:0", "stat=/bin/payload": "100755 0:0 0:0"})
		if got := owner(t, c.Rootfs.Upper+"/file"); got != "0:0" {
			t.Errorf("stored as %s", got)
		}
	}
}

func TestUserCreate(t *testing.T) {
	s := newSandbox(t)
	path := s.dir + "/fifo"
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fifo, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fifo)
	c := withUser(s.container("report"))
	rd, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stdout, c.Stderr = int(w.Fd()), int(w.Fd())
	p, err := s.l.Create(t.Context(), c, fifo)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	run := &running{p, s, rd}
	t.Cleanup(run.end)
	if _, err := unix.Write(fifo, []byte{0}); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(rd)
	if err != nil {
		t.Fatal(err)
	}
	if rep := parseReport(t, string(out)); rep.Pid != 1 || rep.Status["Uid"] != "0\t0\t0\t0" {
		t.Errorf("%+v", rep)
	}
	c = withUser(s.container("report"))
	c.Spec.Process.Args = []string{"/nosuch"}
	_, err = s.l.Create(t.Context(), c, fifo)
	if e, ok := errors.AsType[*StartError](err); !ok || e.Code != 127 {
		t.Errorf("err = %v", err)
	}
}

// TestUserJoin shares a user namespace and others by path.
func TestUserJoin(t *testing.T) {
	s := newSandbox(t)
	first, err := s.start(withUser(s.container("sleep")))
	if err != nil {
		t.Fatal(err)
	}
	c := s.container("report")
	for i, n := range c.Spec.Linux.Namespaces {
		if name := map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "net", specs.PIDNamespace: "pid", specs.IPCNamespace: "ipc"}[n.Type]; name != "" {
			c.Spec.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/ns/%s", first.Pid, name)
		}
	}
	c.Spec.Linux.Namespaces = append(c.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: fmt.Sprintf("/proc/%d/ns/user", first.Pid)})
	rep := s.report(c)
	for _, n := range []string{"user", "net", "pid", "ipc"} {
		if want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", first.Pid, n)); err != nil || rep.Namespaces[n] != want {
			t.Errorf("namespace %s is %s, want %s", n, rep.Namespaces[n], want)
		}
	}
	if rep.Pid == 1 || rep.Status["Uid"] != "0\t0\t0\t0" {
		t.Errorf("%+v", rep)
	}
}

func TestUserRequests(t *testing.T) {
	s := newSandbox(t)
	for name, edit := range map[string]func(*Container){
		"no maps":           func(c *Container) { c.Spec.Linux.UIDMappings = nil },
		"maps alone":        func(c *Container) { c.Spec.Linux.Namespaces = c.Spec.Linux.Namespaces[:6] },
		"no root":           func(c *Container) { c.Spec.Linux.UIDMappings[0].ContainerID = 5 },
		"bad mount":         func(c *Container) { c.Spec.Mounts[0].UIDMappings = make([]specs.LinuxIDMapping, 1) },
		"no such clock":     func(c *Container) { c.Spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"realtime": {}} },
		"a user not mapped": func(c *Container) { c.User = "70000" },
	} {
		c := withUser(s.container("report"))
		edit(c)
		if _, err := s.l.Start(t.Context(), c); !errors.Is(err, errdefs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := filepath.Glob("/sys/fs/cgroup/*/" + c.ID); len(left) > 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
	c := withUser(s.container("report"))
	c.Spec.Process.Args = []string{"/nosuch"}
	_, err := s.l.Start(t.Context(), c)
	if e, ok := errors.AsType[*StartError](err); !ok || e.Code != 127 {
		t.Errorf("err = %v", err)
	}
}

// TestMountMaps binds one directory with a map of its own, without and with a
// user namespace.
func TestMountMaps(t *testing.T) {
	s := newSandbox(t)
	dir := s.mkdir("shared")
	m := idmap.Range(5000, 6000, 10)
	bind := specs.Mount{Destination: "/m", Type: "bind", Source: dir, Options: []string{"bind"}, UIDMappings: m.UID, GIDMappings: m.GID}
	c := s.container()
	c.Spec.Mounts = append(c.Spec.Mounts, bind)
	expect(t, s.tries(c, "stat=/m"), map[string]string{"stat=/m": "40755 0:0 5000:6000"})
	bind.UIDMappings, bind.GIDMappings = nil, nil
	bind.Options = append(bind.Options, "ridmap")
	c = withUser(s.container())
	c.Spec.Mounts = append(c.Spec.Mounts, bind)
	expect(t, s.tries(c, "stat=/m", "write=/m/x"), map[string]string{"stat=/m": "40755 0:0 0:0", "write=/m/x": "ok"})
	c = s.container("report")
	c.Spec.Mounts = append(c.Spec.Mounts, bind)
	if _, err := s.l.Start(t.Context(), c); !errors.Is(err, errdefs.Invalid) {
		t.Errorf("idmap without a map: %v", err)
	}
}

// TestTimeNamespace moves the clocks of a container.
func TestTimeNamespace(t *testing.T) {
	s := newSandbox(t)
	const day = 86400
	for _, user := range []bool{false, true} {
		c := s.container()
		if user {
			withUser(c)
		}
		c.Spec.Linux.Namespaces = append(c.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
		c.Spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: day}, "boottime": {Secs: 7 * day, Nanosecs: 5}}
		got := s.tries(c, "clock=monotonic", "clock=boottime", "read=/proc/uptime")
		for what, want := range map[string]struct {
			clock int32
			days  int64
		}{"clock=monotonic": {unix.CLOCK_MONOTONIC, 1}, "clock=boottime": {unix.CLOCK_BOOTTIME, 7}, "read=/proc/uptime": {unix.CLOCK_BOOTTIME, 7}} {
			var now unix.Timespec
			if err := unix.ClockGettime(want.clock, &now); err != nil {
				t.Fatal(err)
			}
			n, err := strconv.ParseFloat(strings.Fields(got[what] + " ")[0], 64)
			if off := int64(n) - now.Sec - want.days*day; err != nil || off < -60 || off > 1 {
				t.Errorf("%s = %q, %d s off", what, got[what], off)
			}
		}
	}
}

func TestTimeExec(t *testing.T) {
	s := newSandbox(t)
	const day = 86400
	for _, user := range []bool{false, true} {
		c := s.container("sleep")
		if user {
			withUser(c)
		}
		c.Spec.Linux.Namespaces = append(c.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
		c.Spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: 100 * day}}
		r, err := s.start(c)
		if err != nil {
			t.Fatal(err)
		}
		proc := *c.Spec.Process
		proc.Args = []string{"payload", "try", "clock=monotonic"}
		out, code := s.exec(r, &Exec{Process: &proc, User: "app", Filter: defaultFilter(t)})
		n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(out, "clock=monotonic: ")))
		if code != 0 || err != nil || n < 100*day {
			t.Errorf("%d %q", code, out)
		}
		proc.Args = []string{"payload", "report"}
		out, _ = s.exec(r, &Exec{Process: &proc})
		if rep := parseReport(t, out); !slices.Equal(rep.FDs, []string{"0", "1", "2"}) {
			t.Errorf("%+v", rep)
		}
		proc.Args = []string{"nosuch"}
		_, err = s.l.Exec(t.Context(), &Exec{Pid: r.Pid, Pidfd: r.Pidfd, Cgroup: r.Cgroup, Process: &proc, Stdin: -1, Stdout: -1, Stderr: -1})
		if e, ok := errors.AsType[*StartError](err); !ok || e.Code != 127 {
			t.Errorf("err = %v", err)
		}
	}
}

// BenchmarkUser compares a start with a user namespace to one without, in turns.
func BenchmarkUser(b *testing.B) {
	s := newSandbox(b)
	filter := defaultFilter(b)
	net := netns(b)
	var all [2][]time.Duration
	for b.Loop() {
		for i := range all {
			b.StopTimer()
			c := s.container()
			c.NetNS, c.Filter = net, filter
			c.Spec.Linux.Resources = limits()
			for _, f := range []string{"resolv.conf", "hosts", "hostname"} {
				m := specs.Mount{Destination: "/etc/" + f, Type: "bind", Source: s.file(f, "x", 0o644), Options: []string{"rbind", "rprivate"}}
				if i == 1 {
					m.Options = append(m.Options, "idmap")
				}
				c.Spec.Mounts = append(c.Spec.Mounts, m)
			}
			if i == 1 {
				withUser(c)
			}
			b.StartTimer()
			began := time.Now()
			p, err := s.l.Start(b.Context(), c)
			took := time.Since(began)
			b.StopTimer()
			if err != nil {
				b.Fatal(err)
			}
			all[i] = append(all[i], took)
			_, _, _ = pidfd.Wait(p.Pidfd)
			(&running{p, s, nil}).end()
			b.StartTimer()
		}
	}
	median(b, all[0], "host")
	median(b, all[1], "user")
	b.ReportMetric(float64(all[1][len(all[1])/2])/float64(all[0][len(all[0])/2]), "x-host")
}
