package runtime

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/linux/idmap"
	"lade/internal/linux/sys"
)

// A container with a user namespace lives in the namespaces that were made ahead,
// which belong to its root; it is like one that makes them itself, whether its
// launcher finds proc and sysfs of the host in sight or makes others.
func TestAheadUser(t *testing.T) {
	s := newSandbox(t)
	bundle := func(args ...string) *Container {
		c := withUser(s.container(args...))
		c.Rootfs = Rootfs{Path: s.root, Translate: true}
		return c
	}
	fresh := s.report(bundle("report"))
	before := open(t)
	for _, inSight := range []bool{true, false} {
		c := bundle("report")
		l, made := newOnce(t, c)
		if !l.ahead.inSight {
			t.Error("proc or sysfs of the host are not in sight")
		}
		l.ahead.inSight = inSight
		want := map[string]string{}
		for name, kind := range map[string]uint64{"user": unix.CLONE_NEWUSER, "net": unix.CLONE_NEWNET, "ipc": unix.CLONE_NEWIPC} {
			var st unix.Stat_t
			if err := unix.Fstat(made[kind], &st); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			want[name] = fmt.Sprintf("%s:[%d]", name, st.Ino)
		}
		// While it is held, no other namespace gets its number.
		held := []int{hold(t, made[unix.CLONE_NEWUSER]), hold(t, made[unix.CLONE_NEWNET])}
		alone := *s
		alone.l = l
		got := alone.report(c)
		for name, id := range want {
			if got.Namespaces[name] != id {
				t.Errorf("in %s, made ahead was %s", got.Namespaces[name], id)
			}
		}
		if !slices.Equal(got.Links, []string{"lo up"}) || !slices.Equal(got.Links, fresh.Links) {
			t.Errorf("links %v, otherwise %v", got.Links, fresh.Links)
		}
		if a, b := slices.Sorted(maps.Keys(got.Mounts)), slices.Sorted(maps.Keys(fresh.Mounts)); !slices.Equal(a, b) {
			t.Errorf("mounts %v, otherwise %v", a, b)
		}
		// A second one, which nothing was made for, makes its own.
		other := alone.report(bundle("report"))
		if other.Namespaces["user"] == got.Namespaces["user"] || other.Namespaces["net"] == got.Namespaces["net"] || !slices.Equal(other.Links, got.Links) {
			t.Errorf("the second one is in %v, with %v", other.Namespaces, other.Links)
		}
		sys.CloseAll(held...)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	c := bundle()
	l, _ := newOnce(t, c)
	alone := *s
	alone.l = l
	expect(t, alone.tries(c, "stat=/dev/mqueue", "stat=/sys/class/net/lo/mtu", "stat=/proc/sys/net/ipv4", "address=lo"), map[string]string{
		"stat=/dev/mqueue": "41777 0:0 0:0", "stat=/sys/class/net/lo/mtu": "100644 0:0 0:0", "stat=/proc/sys/net/ipv4": "40555 0:0 0:0",
	})
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	closedAgain(t, before)
}

func hold(t *testing.T, fd int) int {
	t.Helper()
	held, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return held
}

// A user namespace that cannot be made ahead is refused by the start.
func TestAheadUserRefused(t *testing.T) {
	s := newSandbox(t)
	c := withUser(s.container("exit"))
	c.Spec.Linux.UIDMappings = append(c.Spec.Linux.UIDMappings, c.Spec.Linux.UIDMappings...) // twice the same
	l, made := newOnce(t, c)
	if made[unix.CLONE_NEWUSER] >= 0 || made[unix.CLONE_NEWNET] >= 0 {
		t.Errorf("made %v", made)
	}
	if _, err := l.Start(t.Context(), c); err == nil {
		t.Error("it runs")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// The files of a network namespace belong to the root of the user namespace that it
// was made for.
func TestNewUserOwns(t *testing.T) {
	s := newSandbox(t)
	c := withUser(s.container("exit"))
	s.run(c) // for what is made once
	s.l.stock.closeUsed()
	before := open(t)
	user, net, err := s.l.NewUser(t.Context(), idmap.Map{UID: c.Spec.Linux.UIDMappings, GID: c.Spec.Linux.GIDMappings}, true)
	if err != nil {
		t.Fatal(err)
	}
	c.UserNS, c.NetNS = user, net
	expect(t, s.tries(c, "stat=/sys/class/net/lo/mtu"), map[string]string{"stat=/sys/class/net/lo/mtu": "100644 0:0 0:0"})
	unix.Close(user)
	unix.Close(net)
	s.l.stock.closeUsed()
	closedAgain(t, before)
}
