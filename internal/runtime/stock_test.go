package runtime

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/need"
)

// open counts the descriptors of this process.
func open(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// closedAgain waits until no more descriptors are open than before: those of a test's
// pipes are closed by goroutines.
func closedAgain(t *testing.T, before int) {
	t.Helper()
	need.Eventually(t, fmt.Sprintf("no more than %d descriptors are open", before), func() bool { return open(t) <= before })
}

// stockOf returns what is ready: the number of the IPC namespace, or 0, and of
// mounts.
func stockOf(t *testing.T, l *Launcher) (ipc uint64, mounts int) {
	t.Helper()
	l.stock.mu.Lock()
	defer l.stock.mu.Unlock()
	var st unix.Stat_t
	if l.stock.ipc > 0 {
		if err := unix.Fstat(l.stock.ipc, &st); err != nil {
			t.Fatal(err)
		}
	}
	return st.Ino, len(l.stock.ready)
}

// A container of the stock is like one that was made from nothing: the same
// mounts, devices and links, an IPC namespace of its own with nothing in it.
func TestStock(t *testing.T) {
	s := newSandbox(t)
	looks := []string{"stat=/dev/null", "stat=/dev/zero", "stat=/dev/full", "stat=/dev/random", "stat=/dev/urandom", "stat=/dev/tty",
		"link=/dev/fd", "link=/dev/stdin", "link=/dev/stdout", "link=/dev/stderr", "link=/dev/ptmx", "link=/dev/core",
		"mode=/dev", "mode=/dev/shm", "mode=/dev/mqueue", "mode=/sys/fs/cgroup", "list=/dev", "list=/dev/mqueue", "list=/dev/shm", "list=/sys/fs/cgroup",
		"append=/dev/null", "write=/dev/shm/x", "write=/dev/mqueue/x"}
	fresh, want := s.report(s.container("report")), s.tries(s.container(), looks...)
	if ipc, mounts := stockOf(t, s.l); ipc != 0 || mounts != 0 {
		t.Fatalf("%d, %d mounts before they were asked for", ipc, mounts)
	}
	before := open(t)
	s.l.Restock()
	ipc, mounts := stockOf(t, s.l)
	if ipc == 0 || mounts < 4 {
		t.Fatalf("ipc namespace %d, %d mounts in stock", ipc, mounts)
	}
	full := open(t)
	s.l.Restock() // there is nothing to do
	if n := open(t); n != full {
		t.Errorf("%d descriptors, %d after another time", full, n)
	}
	r := s.report(s.container("report"))
	if got := r.Namespaces["ipc"]; got != fmt.Sprintf("ipc:[%d]", ipc) {
		t.Errorf("%s, in stock was %d", got, ipc)
	}
	for _, m := range []map[string]mountLine{fresh.Mounts, r.Mounts} {
		maps.DeleteFunc(m, func(_ string, l mountLine) bool { return l.Type == "overlay" }) // whose options differ
	}
	if !maps.EqualFunc(r.Mounts, fresh.Mounts, func(a, b mountLine) bool {
		return a.Type == b.Type && a.Root == b.Root && slices.Equal(a.Options, b.Options)
	}) {
		t.Errorf("mounts\n%v\nwithout a stock\n%v", r.Mounts, fresh.Mounts)
	}
	if ipc, mounts := stockOf(t, s.l); ipc != 0 || mounts != 0 {
		t.Errorf("left over: %d, %d mounts", ipc, mounts)
	}
	if n := open(t); n != before+1 { // our own IPC namespace, to return to
		t.Errorf("%d descriptors before, %d after", before, n)
	}
	for range 2 { // the second finds nothing of what the first has written
		s.l.Restock()
		if got := s.tries(s.container(), looks...); !maps.Equal(got, want) {
			t.Errorf("%v\nwithout a stock\n%v", got, want)
		}
	}
}

// What a container wants otherwise is not taken from the stock.
func TestStockOfOthers(t *testing.T) {
	s := newSandbox(t)
	s.run(s.container())
	s.l.Restock()
	first, _ := stockOf(t, s.l)
	c := s.container()
	c.Spec.Mounts[1].Options = append(slices.Clone(c.Spec.Mounts[1].Options), "nr_inodes=33")
	mode := os.FileMode(0o600)
	c.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/zero", Type: "c", Major: 1, Minor: 3, FileMode: &mode}}
	c.Spec.Linux.Namespaces = slices.DeleteFunc(slices.Clone(c.Spec.Linux.Namespaces), func(n specs.LinuxNamespace) bool { return n.Type == specs.IPCNamespace })
	expect(t, s.tries(c, "stat=/dev/zero", "stat=/dev/full", "link=/dev/fd"), map[string]string{
		"stat=/dev/zero": "20600 1:3 0:0", "stat=/dev/full": "20666 1:7 0:0", "link=/dev/fd": "/proc/self/fd",
	})
	if ipc, _ := stockOf(t, s.l); ipc != first {
		t.Errorf("ipc namespace %d of the stock has become %d", first, ipc)
	}
	s.l.Restock() // for others like that one
	if ipc, _ := stockOf(t, s.l); ipc != 0 {
		t.Errorf("ipc namespace %d is kept", ipc)
	}
	// A device of the container's beside those of the stock.
	c = s.container()
	c.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/own", Type: "c", Major: 1, Minor: 5}}
	s.run(s.container())
	s.l.Restock()
	expect(t, s.tries(c, "stat=/dev/own", "stat=/dev/null"), map[string]string{"stat=/dev/own": "20666 1:5 0:0", "stat=/dev/null": "20666 1:3 0:0"})
}
