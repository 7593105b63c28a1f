package runtime

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/linux/pidfd"
)

// TestCreate parks a container and lets it go on.
func TestCreate(t *testing.T) {
	s := newSandbox(t)
	path := s.dir + "/fifo"
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fifo, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fifo)
	c := s.container("report")
	c.User = "app"
	c.Filter = defaultFilter(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stdout, c.Stderr = int(w.Fd()), int(w.Fd())
	p, err := s.l.Create(t.Context(), c, fifo)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	run := &running{p, s, r}
	t.Cleanup(run.end)
	if !pidfd.Alive(p.Pidfd) {
		t.Error("not alive")
	}
	start, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := start.Write([]byte{0}); err != nil {
		t.Error(err)
	}
	start.Close()
	out, err := io.ReadAll(r)
	if err != nil {
		t.Error(err)
	}
	rep := parseReport(t, string(out))
	if rep.Pid != 1 || rep.Hostname != "box" || strings.Join(rep.FDs, " ") != "0 1 2" || rep.Status["SigBlk"] != "0000000000000000" || rep.Status["Seccomp"] != "2" {
		t.Errorf("%+v", rep)
	}
	if code, _, err := pidfd.Wait(p.Pidfd); code != 0 || err != nil {
		t.Errorf("%d, %v", code, err)
	}
	c = s.container()
	c.Spec.Process.Args = []string{"nosuch"}
	_, err = s.l.Create(t.Context(), c, fifo)
	if e, ok := errors.AsType[*StartError](err); !ok || e.Code != 127 || err.Error() != `exec: "nosuch": executable file not found in $PATH` {
		t.Errorf("%v", err)
	}
}
