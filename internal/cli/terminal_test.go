package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"lade/internal/need"
)

// openTerminal makes a pseudo-terminal of 24 lines and 120 columns.
func openTerminal(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	m, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours = os.NewFile(uintptr(m), "ptmx")
	t.Cleanup(func() { _ = ours.Close() })
	if err := unix.IoctlSetPointerInt(m, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(m, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = theirs.Close() })
	if err := unix.IoctlSetWinsize(int(theirs.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 120}); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

// TestDetach types the keys that leave a container with a terminal.
func TestDetach(t *testing.T) {
	f := newFake(t)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("DOCKER_HOST", "unix://"+f.socket)
	f.reset(0, "")
	ours, theirs := openTerminal(t)
	var s need.Buffer
	go io.Copy(&s, ours)
	before, err := term.GetState(int(theirs.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	code := make(chan int, 1)
	go func() { code <- Main([]string{"lade", "run", "-it", "busybox", "sh"}, theirs, theirs, theirs) }()
	need.Eventually(t, "output", func() bool { return strings.Contains(s.String(), "more") })
	need.Eventually(t, "a size", func() bool {
		for _, q := range f.asked() {
			if strings.HasSuffix(q.Path, "/resize") && q.Query.Get("h") == "24" && q.Query.Get("w") == "120" {
				return true
			}
		}
		return false
	})
	if _, err := ours.WriteString("ls\x10x\x10\x11"); err != nil {
		t.Fatal(err)
	}
	select {
	case c := <-code:
		if c != 0 {
			t.Errorf("detached with exit code %d", c)
		}
	case <-time.After(need.Patience(30 * time.Second)):
		t.Fatal("still attached")
	}
	after, err := term.GetState(int(theirs.Fd()))
	if err != nil || fmt.Sprint(*after) != fmt.Sprint(*before) {
		t.Errorf("the terminal is left in another mode: %v", err)
	}
	c := created(t, result{Requests: f.asked()})
	if c["Tty"] != true || c["OpenStdin"] != true || c["StdinOnce"] != true {
		t.Error(c)
	}
	if size := fmt.Sprint(c["HostConfig"].(map[string]any)["ConsoleSize"]); size != "[24 120]" {
		t.Error("console size", size)
	}
}

// TestProgress pulls with a terminal: a bar, redrawn in its line.
func TestProgress(t *testing.T) {
	f := newFake(t)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("DOCKER_HOST", "unix://"+f.socket)
	ours, theirs := openTerminal(t)
	var s need.Buffer
	go io.Copy(&s, ours)
	if code := Main([]string{"lade", "pull", "busybox"}, theirs, theirs, theirs); code != 0 {
		t.Error("exit code", code)
	}
	need.Eventually(t, "the end", func() bool { return strings.Contains(s.String(), "docker.io/library/busybox:latest") })
	for _, want := range []string{
		"latest: Pulling from library/busybox\r\n",
		"\x1b[1A\x1b[2K\raaaaaaaaaaaa: Downloading [=========================>                         ]     512B/1.024kB\r\x1b[1B",
		"\x1b[2K\raaaaaaaaaaaa: Pull complete \r\x1b[1B",
		"Status: Downloaded newer image for busybox:latest\r\n",
	} {
		if !strings.Contains(s.String(), want) {
			t.Errorf("no %q in %q", want, s.String())
		}
	}
}

// TestSignals sends this process what the container is to get.
func TestSignals(t *testing.T) {
	f := newFake(t)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("DOCKER_HOST", "unix://"+f.socket)
	f.reset(4, "")
	in, stdin, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	asked := func(path, query string) func() bool {
		return func() bool {
			for _, q := range f.asked() {
				if strings.HasSuffix(q.Path, path) && q.Query.Encode() == query {
					return true
				}
			}
			return false
		}
	}
	code := make(chan int, 1)
	var out, errOut bytes.Buffer
	go func() { code <- Main([]string{"lade", "run", "-i", "busybox", "cat"}, in, &out, &errOut) }()
	need.Eventually(t, "started", asked("/start", ""))
	for _, s := range []struct {
		sig  unix.Signal
		name string
	}{{unix.SIGUSR1, "USR1"}, {unix.SIGTERM, "TERM"}, {unix.SIGINT, "INT"}} {
		if err := unix.Kill(os.Getpid(), s.sig); err != nil {
			t.Fatal(err)
		}
		need.Eventually(t, s.name, asked("/kill", "signal="+s.name))
	}
	_ = stdin.Close()
	if c := <-code; c != 4 {
		t.Errorf("exit code %d, want the container's", c)
	}
}

// resize gives a terminal another width.
func resize(t *testing.T, f *os.File, columns int) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: uint16(columns)}); err != nil {
		t.Fatal(err)
	}
}
