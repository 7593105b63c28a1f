package main

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/need"
	"lade/internal/supervisor"
	"lade/internal/supervisor/wire"
)

// TestService runs the supervisor as a service manager does: with a socket that
// is there before and after it, and a word when it is ready.
func TestService(t *testing.T) {
	need.Root(t)
	binary, root := need.Binary(t, "lade-supervisor"), t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	listener, err := wire.Listen(root)
	if err != nil {
		t.Fatal(err)
	}
	socket := os.NewFile(uintptr(listener), "socket")
	defer socket.Close()
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(root, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()

	start := func() *exec.Cmd {
		cmd := exec.CommandContext(ctx, "sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" --root "$1" --foreground --idle-exit 0`, binary, root)
		cmd.ExtraFiles = []*os.File{socket}
		cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(root, "notify"))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	ready := func() {
		t.Helper()
		b := make([]byte, 100)
		if n, err := notify.Read(b); err != nil || string(b[:n]) != "READY=1" {
			t.Fatalf("told %q, %v", b[:n], err)
		}
	}
	connect := func() (*supervisor.Client, wire.Welcome) {
		t.Helper()
		c, w, err := supervisor.Connect(ctx, supervisor.Options{Root: root}) // starts none
		if err != nil {
			t.Fatal(err)
		}
		return c, w
	}

	first := start()
	ready()
	c, w := connect()
	if w.Pid != first.Process.Pid {
		t.Errorf("process %d answers, not %d", w.Pid, first.Process.Pid)
	}
	if err := c.Upgrade(ctx, nil); err != nil { // the next program has the socket, too
		t.Fatal(err)
	}
	c.Close()
	ready()
	c, w = connect()
	if w.Pid != first.Process.Pid {
		t.Errorf("process %d answers, not %d", w.Pid, first.Process.Pid)
	}
	c.Close()
	if err := first.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := first.Wait(); err != nil {
		t.Error(err)
	}

	// Who connects now waits for the next one.
	waiting, err := wire.Dial(root)
	if err != nil {
		t.Fatalf("the socket went with the supervisor: %v", err)
	}
	unix.Close(waiting)
	second := start()
	ready()
	if c, w = connect(); w.Pid != second.Process.Pid {
		t.Errorf("process %d answers, not %d", w.Pid, second.Process.Pid)
	}
	c.Close()
	if err := second.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = second.Wait() // it was killed
}
