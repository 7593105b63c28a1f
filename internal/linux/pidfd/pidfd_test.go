package pidfd

import (
	"errors"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func child(t *testing.T, script string) int {
	t.Helper()
	fd := -1
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &fd}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestWait(t *testing.T) {
	fd := child(t, "exit 42")
	if code, sig, err := Wait(fd); code != 42 || sig != 0 || err != nil {
		t.Errorf("Wait = %d, %v, %v", code, sig, err)
	}
	if _, _, err := Wait(fd); !errors.Is(err, unix.ECHILD) {
		t.Errorf("second Wait: %v", err)
	}
	fd = child(t, "exec sleep 60")
	if !Alive(fd) {
		t.Error("not alive")
	}
	if err := Signal(fd, unix.SIGTERM); err != nil {
		t.Error(err)
	}
	if code, sig, err := Wait(fd); code != 143 || sig != unix.SIGTERM || err != nil {
		t.Errorf("Wait = %d, %v, %v", code, sig, err)
	}
	if Alive(fd) {
		t.Error("alive")
	}
	if err := Signal(fd, unix.SIGTERM); !errors.Is(err, unix.ESRCH) {
		t.Error(err)
	}
}
