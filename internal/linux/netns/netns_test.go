package netns

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/need"
)

func id(t *testing.T) string {
	t.Helper()
	s, err := os.Readlink(self)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestReturn checks that code runs where it should, and that no thread stays
// behind in another namespace.
func TestReturn(t *testing.T) {
	need.Root(t)
	home := id(t)
	var made string
	ns, err := New(func(*os.File) error {
		made = id(t)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if made == home {
		t.Fatal("the new namespace is the old one")
	}
	want := errors.New("x")
	err = Do(ns, func() error {
		if got := id(t); got != made {
			t.Errorf("Do ran in %s, want %s", got, made)
		}
		return want
	})
	if err != want {
		t.Error(err)
	}
	if ns, err := New(func(*os.File) error { return want }); ns != nil || err != want {
		t.Errorf("New of what fails = %v, %v", ns, err)
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			Do(ns, func() error { return nil })
			if got := id(t); got != home {
				t.Errorf("a thread stayed in %s", got)
			}
		})
	}
	wg.Wait()
}

func TestNotANamespace(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Do(f, func() error { t.Error("ran"); return nil }); err == nil {
		t.Error("no error")
	}
}

// TestThread makes namespaces one after the other on one thread.
func TestThread(t *testing.T) {
	need.Root(t)
	th, err := Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer th.Unlock()
	home, made := id(t), map[string]bool{}
	for range 3 {
		ns, err := th.New(func(*os.File) error { made[id(t)] = true; return nil })
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		if got := id(t); got != home || th.Lost() {
			t.Fatalf("the thread stayed in %s", got)
		}
	}
	if len(made) != 3 || made[home] {
		t.Errorf("made %v at home in %s", made, home)
	}
}

// TestSockets counts what is left of a namespace's sockets.
func TestSockets(t *testing.T) {
	need.Root(t)
	var s *Sockets
	var open []io.Closer
	check := func(what string, sockets, remembered int) {
		t.Helper()
		if n, r, err := s.Count(); n != sockets || r != remembered || err != nil {
			t.Errorf("%s: %d sockets, %d remembered, %v; want %d, %d", what, n, r, err, sockets, remembered)
		}
	}
	ns, err := New(func(*os.File) (err error) {
		if err := Sysctl("net/ipv4/ip_unprivileged_port_start", "77"); err != nil {
			return err
		}
		if raw, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err != nil || string(raw) != "77\n" {
			t.Errorf("sysctl reads as %q, %v", raw, err)
		}
		if s, err = OpenSockets(); err != nil {
			return err
		}
		check("new namespace", 0, 0)
		for _, a := range []struct{ family, kind, proto int }{
			{unix.AF_UNIX, unix.SOCK_DGRAM, 0}, {unix.AF_INET, unix.SOCK_STREAM, 0}, {unix.AF_INET6, unix.SOCK_DGRAM, 0},
			{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP}, {unix.AF_PACKET, unix.SOCK_RAW, 0}, {unix.AF_NETLINK, unix.SOCK_RAW, 0},
		} {
			fd, err := unix.Socket(a.family, a.kind|unix.SOCK_CLOEXEC, a.proto)
			if err != nil {
				return err
			}
			open = append(open, os.NewFile(uintptr(fd), "socket"))
			check(fmt.Sprint("with a socket of family ", a.family), len(open), 0)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	defer s.Close()
	for _, c := range open {
		c.Close()
	}
	need.Eventually(t, "netlink sockets go after an RCU grace period", func() bool {
		n, _, _ := s.Count()
		return n == 0
	})
	check("all closed", 0, 0)
}
