package service

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func TestNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Notify("READY=1"); err != nil {
		t.Errorf("without a service manager: %v", err)
	}
	abstract := "@lade-test-" + strconv.Itoa(os.Getpid())
	for _, name := range []string{filepath.Join(t.TempDir(), "s"), abstract} {
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		t.Setenv("NOTIFY_SOCKET", name)
		if err := Notify("READY=1\nSTATUS=x"); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		if n, err := l.Read(b); err != nil || string(b[:n]) != "READY=1\nSTATUS=x" {
			t.Errorf("%s: got %q, %v", name, b[:n], err)
		}
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	if Notify("READY=1") == nil {
		t.Error("told to nobody")
	}
}

// TestSocketOfOthers: what was meant for another process is not taken, and not
// passed on.
func TestSocketOfOthers(t *testing.T) {
	t.Setenv("LISTEN_PID", "1")
	t.Setenv("LISTEN_FDS", "1")
	if fd, kept := Socket(); fd != 0 || kept != nil {
		t.Errorf("took %d, %v", fd, kept)
	}
	if os.Getenv("LISTEN_FDS") != "" {
		t.Error("children would take it")
	}
}
