package pty

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/need"
)

func TestOpen(t *testing.T) {
	if !need.Userns(t) {
		return
	}
	dir, err := Mount([]string{"newinstance", "mode=" + DefaultMode, "ptmxmode=" + PtmxMode}, unix.MOUNT_ATTR_NOSUID)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	m, s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(m)
	defer unix.Close(s)
	if err := Resize(m, 33, 77); err != nil {
		t.Error(err)
	}
	if w, err := unix.IoctlGetWinsize(s, unix.TIOCGWINSZ); err != nil || w.Row != 33 || w.Col != 77 {
		t.Errorf("%+v, %v", w, err)
	}
	if _, err := unix.Write(m, []byte("hi\n")); err != nil {
		t.Error(err)
	}
	b := make([]byte, 10)
	if n, err := unix.Read(s, b); string(b[:n]) != "hi\n" || err != nil {
		t.Errorf("%q, %v", b[:n], err)
	}
	tmp, err := unix.Open(t.TempDir(), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(tmp)
	if _, _, err := Open(tmp); !errors.Is(err, unix.ENOTTY) {
		t.Error(err)
	}
}
