package ns

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/need"
)

func TestFlag(t *testing.T) {
	for _, k := range []string{"pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"} {
		f := Flag(k)
		if f == 0 {
			t.Errorf("Flag(%q) = 0", k)
			continue
		}
		fd, err := Open(0, f)
		if err != nil {
			t.Error(err)
			continue
		}
		unix.Close(fd)
		if same, err := Same(os.Getpid(), f); !same || err != nil {
			t.Errorf("Same(%q) = %v, %v", k, same, err)
		}
	}
	if Flag("x") != 0 {
		t.Error("Flag(x)")
	}
}

func TestEmpty(t *testing.T) {
	need.Root(t)
	done := make(chan struct{})
	Go(func() {
		defer close(done)
		if unix.Gettid() == unix.Getpid() {
			t.Error("on the first thread")
		}
		procDir, err := unix.Open("/proc/thread-self/", unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(procDir)
		empty, err := Empty()
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(empty)
		// A thread that shares its root and working directory cannot enter.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			t.Error(err)
			return
		}
		if err := unix.Setns(empty, unix.CLONE_NEWNS); err != nil {
			t.Error(err)
			return
		}
		fd, err := unix.Openat(procDir, "mountinfo", unix.O_RDONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		b := make([]byte, 4096)
		n, err := unix.Read(fd, b)
		unix.Close(fd)
		if err != nil || strings.Count(string(b[:n]), "\n") != 3 {
			t.Errorf("%v\n%s", err, b[:n])
		}
		if err := unix.Mkdir("/empty/x", 0o755); err != unix.EROFS {
			t.Errorf("mkdir /empty/x: %v", err)
		}
		if err := unix.Access("/etc", unix.F_OK); err != unix.ENOENT {
			t.Errorf("/etc: %v", err)
		}
		null, err := unix.Open("/null", unix.O_RDWR, 0)
		if err != nil {
			t.Error(err)
			return
		}
		if n, err := unix.Read(null, b); n != 0 || err != nil {
			t.Errorf("read /null: %d, %v", n, err)
		}
		unix.Close(null)
	})
	<-done
}

// TestAttached mounts one detached tree on another.
func TestAttached(t *testing.T) {
	if !need.Userns(t) {
		return
	}
	make := func(file string) int {
		fd, err := memory("", 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Mknodat(fd, file, unix.S_IFREG|0o600, 0); err != nil {
			t.Fatal(err)
		}
		return fd
	}
	root, below, other := make("a"), make("b"), make("c")
	defer unix.Close(root)
	defer unix.Close(below)
	defer unix.Close(other)
	if err := unix.Mkdirat(root, "dir", 0o755); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	fd, err := Attached(root, func() error {
		return unix.MoveMount(below, "", root, "dir", unix.MOVE_MOUNT_F_EMPTY_PATH)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "dir/b"} {
		if err := unix.Faccessat(fd, name, unix.F_OK, 0); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	unix.Close(fd)
	if fd, err := Attached(other, func() error { return unix.ENOENT }); err != unix.ENOENT || fd != -1 {
		t.Errorf("%d, %v", fd, err)
	}
	after, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || string(after) != string(before) {
		t.Errorf("%v\n%s", err, after)
	}
}
