package runtime

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/linux/idmap"
	"lade/internal/linux/sys"
)

// inNewUser gives c a user namespace that was made before, as the supervisor has
// them, and closes it when f is through. With kit the next start finds one.
func inNewUser(s *sandbox, c *Container, kit bool, f func()) {
	s.t.Helper()
	withUser(c)
	user, _, err := s.l.NewUser(s.t.Context(), idmap.Map{UID: c.Spec.Linux.UIDMappings, GID: c.Spec.Linux.GIDMappings}, false)
	if err != nil {
		s.t.Fatal(err)
	}
	defer sys.CloseAll(user)
	c.UserNS = user
	if kit {
		s.l.Restock()
	}
	f()
}

// kitsOf returns how many kits are to be made, and are.
func kitsOf(l *Launcher) (expected, made int) {
	l.stock.mu.Lock()
	defer l.stock.mu.Unlock()
	return len(l.stock.expected), len(l.stock.kits)
}

// A container with a kit is like one without: the same mounts, devices and links,
// which its root can change, an IPC namespace with nothing in it.
func TestKit(t *testing.T) {
	s := newSandbox(t)
	looks := []string{"stat=/dev", "stat=/dev/null", "stat=/dev/zero", "stat=/dev/full", "stat=/dev/random", "stat=/dev/urandom", "stat=/dev/tty", "stat=/dev/own",
		"link=/dev/fd", "link=/dev/stdin", "link=/dev/ptmx", "link=/dev/core", "list=/dev", "append=/dev/null",
		"stat=/dev/pts", "stat=/dev/pts/ptmx", "stat=/dev/shm", "stat=/dev/mqueue", "stat=/sys/fs/cgroup", "list=/dev/shm", "list=/dev/mqueue", "list=/sys/fs/cgroup",
		"write=/dev/shm/x", "write=/dev/mqueue/x", "write=/sys/fs/cgroup/x",
		"write=/dev/x", "rename=/dev/x", "rename=/dev/fd", "rename=/dev/null", "mknod=/dev/disk"}
	container := func(args ...string) *Container {
		c := s.container(args...)
		c.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/own", Type: "c", Major: 1, Minor: 5}}
		return c
	}
	var fresh *report
	var want map[string]string
	c := container("report")
	inNewUser(s, c, false, func() { fresh = s.report(c) })
	c = container()
	inNewUser(s, c, false, func() { want = s.tries(c, looks...) })
	if want["stat=/dev/null"] != "20666 1:3 0:0" || want["rename=/dev/fd"] != "ok" || want["write=/dev/shm/x"] != "ok" {
		t.Fatal(want)
	}
	s.l.Restock()
	if expected, made := kitsOf(s.l); expected != 0 || made != 0 {
		t.Errorf("%d, %d kits for those that have run", expected, made)
	}
	before := open(t)
	for range 2 { // the second finds nothing of what the first has written
		c := container()
		inNewUser(s, c, true, func() {
			if got := s.tries(c, looks...); !maps.Equal(got, want) {
				t.Errorf("%v\nwithout a kit\n%v", got, want)
			}
		})
	}
	c = container("report")
	inNewUser(s, c, true, func() {
		s.l.stock.mu.Lock()
		k := &kit{}
		if len(s.l.stock.kits) == 1 {
			k = s.l.stock.kits[0]
		}
		s.l.stock.mu.Unlock()
		var st unix.Stat_t
		if err := unix.Fstat(k.ipc, &st); err != nil || len(k.lots) < 5 {
			t.Errorf("%v, %v", err, k.lots)
		}
		r := s.report(c)
		if got := r.Namespaces["ipc"]; got != fmt.Sprintf("ipc:[%d]", st.Ino) {
			t.Errorf("in %s, the kit has %d", got, st.Ino)
		}
		for _, m := range []map[string]mountLine{fresh.Mounts, r.Mounts} {
			maps.DeleteFunc(m, func(_ string, l mountLine) bool { return l.Type == "overlay" }) // whose options differ
		}
		if !maps.EqualFunc(r.Mounts, fresh.Mounts, func(a, b mountLine) bool {
			return a.Type == b.Type && a.Root == b.Root && slices.Equal(a.Options, b.Options)
		}) {
			t.Errorf("mounts\n%v\nwithout a kit\n%v", r.Mounts, fresh.Mounts)
		}
		if len(k.lots) != 0 || k.ipc != 0 {
			t.Errorf("left over: %v, %d", k.lots, k.ipc)
		}
	})
	s.l.Restock() // closes what the last start has left to close
	if n := open(t); n != before {
		t.Errorf("%d descriptors before, %d after", before, n)
	}
}

// What a container wants otherwise it makes itself; the kit of another user namespace
// is not touched.
func TestKitOfOthers(t *testing.T) {
	s := newSandbox(t)
	first := s.container("exit")
	inNewUser(s, first, false, func() { s.run(first) })
	other := s.container()
	inNewUser(s, other, true, func() {
		c := s.container()
		c.Spec.Mounts[1].Options = append(slices.Clone(c.Spec.Mounts[1].Options), "nr_inodes=33")
		mode := os.FileMode(0o600)
		c.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/zero", Type: "c", Major: 1, Minor: 3, FileMode: &mode}}
		c.Spec.Linux.Namespaces = slices.DeleteFunc(slices.Clone(c.Spec.Linux.Namespaces), func(n specs.LinuxNamespace) bool { return n.Type == specs.IPCNamespace })
		inNewUser(s, c, true, func() {
			expect(t, s.tries(c, "stat=/dev/zero", "stat=/dev/full", "link=/dev/fd"), map[string]string{
				"stat=/dev/zero": "20600 1:3 0:0", "stat=/dev/full": "20666 1:7 0:0", "link=/dev/fd": "/proc/self/fd",
			})
		})
		if _, made := kitsOf(s.l); made != 1 {
			t.Errorf("%d kits, want that of the other", made)
		}
		expect(t, s.tries(other, "stat=/dev/null", "list=/dev/mqueue"), map[string]string{"stat=/dev/null": "20666 1:3 0:0", "list=/dev/mqueue": "0"})
	})
}

// Those that nobody starts a container with are not kept without end.
func TestKitsUnused(t *testing.T) {
	s := newSandbox(t)
	before := open(t)
	l, err := NewLauncher(Options{})
	if err != nil {
		t.Fatal(err)
	}
	alone := *s
	alone.l = l
	first := s.container("exit")
	inNewUser(&alone, first, false, func() { alone.run(first) })
	for i := range 3 * maxKits {
		inNewUser(&alone, s.container(), i%2 == 0, func() {})
		if expected, made := kitsOf(l); expected > maxKits || made > maxKits {
			t.Fatalf("%d kits are to be made, %d are", expected, made)
		}
	}
	if _, made := kitsOf(l); made != maxKits {
		t.Errorf("%d kits", made)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if n := open(t); n != before {
		t.Errorf("%d descriptors before, %d after", before, n)
	}
}
