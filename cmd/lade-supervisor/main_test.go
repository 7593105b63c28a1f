package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/need"
	"lade/internal/supervisor"
)

// TestCommand builds the command and holds it to what a daemon relies on: it
// gets ready, has its root alone, can be upgraded, is small, and ends when
// nothing runs.
func TestCommand(t *testing.T) {
	need.Root(t)
	binary := need.Binary(t, "lade-supervisor")
	if out, err := exec.CommandContext(t.Context(), binary, "--version").Output(); err != nil || !strings.HasPrefix(string(out), "lade-supervisor ") {
		t.Errorf("version %q, %v", out, err)
	}
	root := t.TempDir()
	o := supervisor.Options{Root: root, Binary: binary, Args: []string{"--idle-exit", "1m"}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, w, err := supervisor.Connect(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Kill(w.Pid, unix.SIGKILL) })
	if out, err := exec.CommandContext(ctx, binary, "--root", root, "--foreground").CombinedOutput(); err == nil || !strings.Contains(string(out), "another supervisor") {
		t.Errorf("a second one: %q, %v", out, err)
	}
	if err := c.Upgrade(ctx, nil); err != nil {
		t.Fatal(err)
	}
	c.Close()
	c, again, err := supervisor.Connect(ctx, o)
	if err != nil || again.Pid != w.Pid {
		t.Fatalf("%+v, %v", again, err)
	}
	defer c.Close()
	if sid, err := unix.Getsid(w.Pid); err != nil || sid != w.Pid {
		t.Errorf("session %d, %v", sid, err)
	}
	const limit = 4 << 20
	least := limit * 4
	// It gives memory back when it was quiet for a second.
	for end := time.Now().Add(need.Patience(30 * time.Second)); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		least = min(least, pss(t, w.Pid))
		if least <= limit {
			break
		}
	}
	t.Logf("%d kB idle", least>>10)
	if least > limit {
		rollup, _ := os.ReadFile("/proc/" + strconv.Itoa(w.Pid) + "/smaps_rollup")
		t.Errorf("%d bytes idle, the limit is %d\n%s", least, limit, rollup)
	}
	pidfd, err := unix.PidfdOpen(w.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	if err := unix.Kill(w.Pid, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	n, err := 0, error(unix.EINTR)
	for err == unix.EINTR { // the runtime signals its threads
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 10000)
	}
	if n != 1 {
		t.Errorf("it goes on after SIGTERM: %v", err)
	}
	if log, err := os.ReadFile(filepath.Join(root, "supervisor.log")); err != nil || !strings.Contains(string(log), "serving") {
		t.Errorf("log %q, %v", log, err)
	}
}

func pss(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\nPss:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}
