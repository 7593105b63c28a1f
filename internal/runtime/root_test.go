package runtime

import (
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/linux/pidfd"
)

// TestKeepRoot lets containers end whose overlay is still held, as the supervisor
// does: their end is told while the file system, which the kernel syncs when
// the last one leaves it, is there.
func TestKeepRoot(t *testing.T) {
	s := newSandbox(t)
	for name, hold := range map[string]func(*running) int{
		"started": func(r *running) int { return r.Root },
		"adopted": func(r *running) int {
			unix.Close(r.Root)
			return HoldRoot(r.Pid, r.Pidfd)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.container("sleep")
			c.Rootfs.Volatile = false
			r, err := s.start(c)
			if err != nil {
				t.Fatal(err)
			}
			root := hold(r)
			if root <= 0 {
				t.Fatal("nothing holds the root")
			}
			defer unix.Close(root)
			if err := pidfd.Signal(r.Pidfd, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if _, code := r.wait(); code != 128+int(unix.SIGKILL) {
				t.Errorf("exit code %d", code)
			}
			fd, err := unix.Openat(root, "etc/passwd", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatalf("the file system has gone with the process: %v", err)
			}
			unix.Close(fd)
		})
	}
	// What is thrown away is not synced, and need not be held.
	r, err := s.start(s.container("exit", "0"))
	if err != nil {
		t.Fatal(err)
	}
	if _, code := r.wait(); code != 0 || r.Root != 0 {
		t.Errorf("exit code %d, root %d", code, r.Root)
	}
}
