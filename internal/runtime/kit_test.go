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
)

// idsOf returns the ids of a container with a user namespace.
func idsOf(c *Container) idmap.Map {
	return idmap.Map{UID: c.Spec.Linux.UIDMappings, GID: c.Spec.Linux.GIDMappings}
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
		c := withUser(s.container(args...))
		c.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/own", Type: "c", Major: 1, Minor: 5}}
		return c
	}
	fresh, want := s.report(container("report")), s.tries(container(), looks...)
	if want["stat=/dev/null"] != "20666 1:3 0:0" || want["rename=/dev/fd"] != "ok" || want["write=/dev/shm/x"] != "ok" {
		t.Fatal(want)
	}
	s.l.Restock()
	if expected, made := kitsOf(s.l); expected != 0 || made != 0 {
		t.Errorf("%d, %d kits that nobody asked for", expected, made)
	}
	before := open(t)
	for range 2 { // the second finds nothing of what the first has written
		announced(s, container())
		if got := s.tries(container(), looks...); !maps.Equal(got, want) {
			t.Errorf("%v\nwithout a kit\n%v", got, want)
		}
	}
	announced(s, container())
	k := s.l.stock.kits[0]
	ids := map[string]string{}
	for name, fd := range map[string]int{"user": k.user, "ipc": k.ipc} {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ids[name] = fmt.Sprintf("%s:[%d]", name, st.Ino)
	}
	if len(k.lots) < 5 {
		t.Errorf("in the kit: %v", k.lots)
	}
	r := s.report(container("report"))
	for name, id := range ids {
		if r.Namespaces[name] != id {
			t.Errorf("in %s, the kit has %s", r.Namespaces[name], id)
		}
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
	s.l.Restock() // closes what the last start has left to close
	closedAgain(t, before)
}

// announced runs a container that announces the ids of c, and has the kit made.
func announced(s *sandbox, c *Container) {
	s.t.Helper()
	first := withUser(s.container("exit", "0"))
	first.Next = idsOf(c)
	s.run(first)
	s.l.Restock()
	if expected, made := kitsOf(s.l); expected != 0 || made == 0 {
		s.t.Fatalf("%d kits are to be made, %d are", expected, made)
	}
}

// What a container wants otherwise it makes itself; the kit for other ids is not
// touched.
func TestKitOfOthers(t *testing.T) {
	s := newSandbox(t)
	s.run(withUser(s.container("exit", "0")))
	other := withUser(s.container())
	other.Spec.Linux.UIDMappings = idmap.Range(base+200000, 0, 65536).UID
	announced(s, other)
	c := withUser(s.container())
	announced(s, c)
	c.Spec.Mounts[1].Options = append(slices.Clone(c.Spec.Mounts[1].Options), "nr_inodes=33")
	mode := os.FileMode(0o600)
	c.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/zero", Type: "c", Major: 1, Minor: 3, FileMode: &mode}}
	c.Spec.Linux.Namespaces = slices.DeleteFunc(slices.Clone(c.Spec.Linux.Namespaces), func(n specs.LinuxNamespace) bool { return n.Type == specs.IPCNamespace })
	expect(t, s.tries(c, "stat=/dev/zero", "stat=/dev/full", "link=/dev/fd"), map[string]string{
		"stat=/dev/zero": "20600 1:3 0:0", "stat=/dev/full": "20666 1:7 0:0", "link=/dev/fd": "/proc/self/fd",
	})
	if _, made := kitsOf(s.l); made != 1 {
		t.Errorf("%d kits, want that of the other", made)
	}
	expect(t, s.tries(other, "stat=/dev/null", "list=/dev/mqueue"), map[string]string{"stat=/dev/null": "20666 1:3 0:0", "list=/dev/mqueue": "0"})
	if _, made := kitsOf(s.l); made != 0 {
		t.Errorf("%d kits are left", made)
	}
}

// Those that nobody starts a container with are not kept without end, nor made twice;
// what cannot be made is left to the start.
func TestKitsUnused(t *testing.T) {
	s := newSandbox(t)
	before := open(t)
	l, err := NewLauncher(Options{})
	if err != nil {
		t.Fatal(err)
	}
	alone := *s
	alone.l = l
	alone.run(withUser(s.container("exit", "0")))
	for i := range uint32(3 * maxKits) {
		for range 2 {
			l.stock.expect(idmap.Range(base+i*65536, base, 65536))
		}
		if i%2 == 0 {
			l.Restock()
		}
		if expected, made := kitsOf(l); expected > maxKits || made > maxKits {
			t.Fatalf("%d kits are to be made, %d are", expected, made)
		}
	}
	l.Restock()
	if _, made := kitsOf(l); made != maxKits {
		t.Errorf("%d kits", made)
	}
	l.stock.expect(idmap.Map{})                // no user namespace can be made
	l.stock.expect(idmap.Range(base, base, 1)) // nothing that belongs to the group 5
	l.Restock()
	if expected, made := kitsOf(l); expected != 0 || made != maxKits {
		t.Errorf("%d kits are to be made, %d are", expected, made)
	}
	if k := l.stock.kits[maxKits-1]; len(k.ids.UID) != 1 || k.ids.UID[0].Size != 1 || k.user == 0 {
		t.Errorf("the last one is %v", k)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	closedAgain(t, before)
}
