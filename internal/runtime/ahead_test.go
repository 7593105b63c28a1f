package runtime

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/linux/ns"
	"lade/internal/linux/sys"
)

// newOnce returns a launcher for c alone, and what it has made ahead; that stays
// there.
func newOnce(t *testing.T, c *Container) (*Launcher, map[uint64]int) {
	t.Helper()
	l, err := NewLauncher(Options{Threads: 1, Once: true, Ahead: c.Spec})
	if err != nil {
		t.Fatal(err)
	}
	if l.ahead == nil {
		return l, nil
	}
	made := map[uint64]int{}
	for kind, c := range l.ahead.made {
		made[kind] = <-c
		c <- made[kind]
	}
	return l, made
}

// A container lives in the namespaces that were made ahead, which are like those
// that it makes itself; its starter stays where it is, and keeps nothing.
func TestAhead(t *testing.T) {
	s := newSandbox(t)
	c := s.container("report")
	fresh := s.report(s.container("report"))
	before := open(t)
	l, made := newOnce(t, c)
	want := map[string]string{}
	for name, kind := range map[string]uint64{"net": unix.CLONE_NEWNET, "ipc": unix.CLONE_NEWIPC} {
		var st unix.Stat_t
		if err := unix.Fstat(made[kind], &st); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want[name] = fmt.Sprintf("%s:[%d]", name, st.Ino)
	}
	held := hold(t, made[unix.CLONE_NEWNET]) // so that no other gets its number
	alone := *s
	alone.l = l
	got := alone.report(c)
	for name, id := range want {
		if got.Namespaces[name] != id {
			t.Errorf("in %s, made ahead was %s", got.Namespaces[name], id)
		}
	}
	if !slices.Equal(got.Links, fresh.Links) || !slices.Contains(got.Links, "lo up") {
		t.Errorf("links %v, otherwise %v", got.Links, fresh.Links)
	}
	// A second one, which nothing was made for, makes its own.
	other := alone.report(s.container("report"))
	if other.Namespaces["net"] == got.Namespaces["net"] || !slices.Equal(other.Links, got.Links) {
		t.Errorf("the second one is in %s, with %v", other.Namespaces["net"], other.Links)
	}
	sys.CloseAll(held)
	for _, kind := range []uint64{unix.CLONE_NEWNET, unix.CLONE_NEWIPC} {
		here, err := ns.Of(0, kind)
		if first, err2 := ns.Of(unix.Getpid(), kind); err != nil || err2 != nil || here != first {
			t.Errorf("this thread is in %v, the process in %v: %v %v", here, first, err, err2)
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	closedAgain(t, before)
}

// What is never started leaves nothing open.
func TestAheadForNothing(t *testing.T) {
	s := newSandbox(t)
	before := open(t)
	l, made := newOnce(t, s.container("exit"))
	if len(made) != 2 {
		t.Errorf("made %v", made)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	closedAgain(t, before)
}

// Only what the container is to have for itself is made, and nothing for one
// whose user namespace, which must own the others, is there already.
func TestAheadKinds(t *testing.T) {
	l := newSandbox(t).l
	const net, ipc = unix.CLONE_NEWNET, unix.CLONE_NEWIPC
	for _, c := range []struct {
		list []specs.LinuxNamespace
		want uint64
	}{
		{nil, 0},
		{[]specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}}, 0},
		{[]specs.LinuxNamespace{{Type: specs.IPCNamespace}, {Type: specs.NetworkNamespace}}, net | ipc},
		{[]specs.LinuxNamespace{{Type: specs.IPCNamespace, Path: "/proc/1/ns/ipc"}, {Type: specs.NetworkNamespace}}, net},
		{[]specs.LinuxNamespace{{Type: specs.NetworkNamespace, Path: "/proc/1/ns/net"}, {Type: specs.IPCNamespace}}, ipc},
		{[]specs.LinuxNamespace{{Type: specs.IPCNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.UserNamespace}}, net | ipc | unix.CLONE_NEWUSER},
		{[]specs.LinuxNamespace{{Type: specs.IPCNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.UserNamespace, Path: "/proc/1/ns/user"}}, 0},
	} {
		s := &specs.Spec{Linux: &specs.Linux{Namespaces: c.list}}
		if got := aheadKinds(s); got != c.want {
			t.Errorf("%v: %#x, not %#x", c.list, got, c.want)
		}
		if a := l.newAhead(s, nil); (a == nil) != (c.want == 0) {
			t.Errorf("%v: %v", c.list, a)
		} else {
			a.close()
		}
	}
	if a := l.newAhead(nil, nil); a != nil {
		t.Errorf("%v for nothing", a)
	}
}

// What the caller has done beside the start is done on the thread that makes the
// namespaces, or without any; the start waits for it as late as it can, and
// fails as it does.
func TestBeside(t *testing.T) {
	s := newSandbox(t)
	for name, spec := range map[string]*specs.Spec{"with namespaces": s.container("exit").Spec, "alone": nil} {
		c := s.container("exit")
		done := make(chan bool, 1)
		l, err := NewLauncher(Options{Threads: 1, Once: true, Ahead: spec, Beside: func() { done <- true }})
		if err != nil {
			t.Fatal(err)
		}
		why := errors.New("not today")
		c.Late = func(late *Container) error {
			if <-done; late != c {
				t.Errorf("%s: another container", name)
			}
			return why
		}
		if _, err := l.Start(t.Context(), c); !errors.Is(err, why) {
			t.Errorf("%s: %v", name, err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}
