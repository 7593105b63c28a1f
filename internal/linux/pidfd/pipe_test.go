package pidfd

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPipes finds a pipe that another process alone holds.
func TestPipes(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdin, hold, err := os.Pipe() // ends the child
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", "echo here >&3; exec cat")
	cmd.Stdin, cmd.ExtraFiles = stdin, []*os.File{w, r}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	t.Cleanup(func() { hold.Close() })
	inode := Pipe(int(w.Fd()))
	stdin.Close()
	r.Close()
	w.Close()
	found := -1
	Pipes([]int{1 << 22, cmd.Process.Pid}, []uint64{0, inode, ^uint64(0)}, func(i, fd int) {
		found = i
		if Pipe(fd) != inode {
			t.Errorf("descriptor %d is another pipe", fd)
		}
	})
	if found != 1 {
		t.Errorf("found %d, want 1", found)
	}
	if Pipe(unix.AT_FDCWD) != 0 {
		t.Error("the current directory is a pipe")
	}
}
