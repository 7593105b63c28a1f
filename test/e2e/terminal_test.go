package e2e

import (
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/need"
	"lade/test/harness"
)

// screen is a client in a terminal of its own.
type screen struct {
	t      *testing.T
	master *os.File
	cmd    *exec.Cmd
	out    need.Buffer
	ended  chan struct{}
}

// pair opens a terminal of the host.
func pair(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// show starts a client in a terminal of 40 rows and 100 columns.
func show(t *testing.T, e *harness.Engine, client string, args ...string) *screen {
	t.Helper()
	master, slave := pair(t)
	defer slave.Close()
	s := &screen{t: t, master: master, cmd: e.Command(client, args...), ended: make(chan struct{})}
	s.resize(40, 100)
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = slave, slave, slave
	s.cmd.Env = append(s.cmd.Env, "TERM=xterm")
	s.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.ended)
		_, _ = io.Copy(&s.out, master) // until EIO: nobody has the other side
	}()
	t.Cleanup(func() {
		if s.cmd.ProcessState == nil {
			if err := s.cmd.Process.Kill(); err != nil {
				t.Log(err)
			}
			s.code()
		}
		master.Close()
	})
	return s
}

func (s *screen) resize(rows, columns uint16) {
	s.t.Helper()
	if err := unix.IoctlSetWinsize(int(s.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *screen) typed(keys string) {
	s.t.Helper()
	if _, err := io.WriteString(s.master, keys); err != nil {
		s.t.Fatal(err)
	}
}

// until waits until the screen shows text.
func (s *screen) until(text string) {
	s.t.Helper()
	s.out.Await(s.t, text)
}

// code waits for the client's end and returns its exit code.
func (s *screen) code() int {
	s.t.Helper()
	done := make(chan int, 1)
	go func() { done <- exitCode(s.cmd.Wait()) }()
	select {
	case code := <-done:
		<-s.ended
		return code
	case <-time.After(need.Patience(30 * time.Second)):
		s.t.Fatalf("the client does not end:\n%s", s.out.String())
		return -1
	}
}

func (s *screen) wants(code int) {
	s.t.Helper()
	if got := s.code(); got != code {
		s.t.Errorf("exit code %d, want %d:\n%s", got, code, s.out.String())
	}
}

const (
	ctrlC  = "\x03"
	ctrlD  = "\x04"
	detach = "\x10\x11"
)

// TestTerminal is what people do at a terminal: shells in containers, with
// size, interrupt, detaching and attaching again.
func TestTerminal(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "Debian's docker-cli")
	e := harness.Start(t)
	image := e.Import()
	for _, client := range []string{"lade", "docker"} {
		t.Run(client, func(t *testing.T) {
			status := func(name string) string {
				return e.Run("inspect", "-f", "{{.State.Status}}", name)
			}
			t.Run("shell", func(t *testing.T) {
				s := show(t, e, client, "run", "-it", "--rm", image, "sh")
				s.until("# ")
				s.typed("tty; stty size; echo $TERM\r")
				s.until("/dev/pts/0")
				s.until("40 100")
				s.until("xterm")
				s.resize(20, 70)
				s.typed("sleep 0.3; stty size\r")
				s.until("20 70")
				s.typed("sh -c 'echo $((6*7)) sleeps; exec sleep 1000'\r") // what writes has the terminal's foreground
				s.until("42 sleeps")
				s.typed(ctrlC)
				s.typed("echo code $?\r")
				s.until("code 130")
				s.typed("exit 4\r")
				s.wants(4)
			})
			t.Run("end of input", func(t *testing.T) {
				s := show(t, e, client, "run", "-it", "--rm", image, "sh")
				s.until("# ")
				s.typed(ctrlD)
				s.wants(0)
			})
			t.Run("interrupt", func(t *testing.T) {
				s := show(t, e, client, "run", "-it", "--rm", "--init", image, "sh", "-c", "echo ready; sleep 1000")
				s.until("ready")
				s.typed(ctrlC)
				s.wants(130)
			})
			t.Run("detach and attach", func(t *testing.T) {
				s := show(t, e, client, "run", "-it", "--name", "sh", image, "sh")
				s.until("# ")
				s.typed("x=kept\r")
				s.until("x=kept")
				s.typed(detach)
				s.wants(0)
				if got := status("sh"); got != "running" {
					t.Fatalf("detached: %s", got)
				}
				s = show(t, e, client, "attach", "sh")
				s.typed("echo $x again\r")
				s.until("kept again")
				s.typed(detach)
				s.code()
				s = show(t, e, client, "attach", "--detach-keys", "ctrl-x,x", "sh")
				s.typed("\r")
				s.until("# ")
				s.typed("\x18x")
				s.code()
				if got := status("sh"); got != "running" {
					t.Errorf("detached by other keys: %s", got)
				}
				s = show(t, e, client, "attach", "sh")
				s.typed("exit 6\r")
				s.wants(6)
				s = show(t, e, client, "start", "-ai", "sh")
				s.typed("echo once more\r")
				s.until("once more\r\n")
				s.typed("exit\r")
				s.wants(0)
				e.Run("rm", "sh")
			})
			t.Run("exec", func(t *testing.T) {
				e.Run("run", "-d", "--name", "box", image, "sleep", "1000")
				s := show(t, e, client, "exec", "-it", "box", "sh")
				s.until("# ")
				s.typed("stty size\r")
				s.until("40 100")
				s.resize(25, 81)
				s.typed("sleep 0.3; stty size\r")
				s.until("25 81")
				s.typed("exit 9\r")
				s.wants(9)
				s = show(t, e, client, "exec", "-it", "box", "cat")
				s.typed("echoed\r")
				s.until("echoed\r\nechoed")
				s.typed(detach)
				s.until("read escape sequence")
				s.code()
				if got := e.Run("top", "box"); !strings.Contains(got, "cat") {
					t.Errorf("after detaching from an exec:\n%s", got)
				}
				s = show(t, e, client, "exec", "-it", "box", "cat")
				s.typed("again\r")
				s.until("again\r\nagain")
				s.typed(ctrlC)
				s.wants(130)
				e.Run("rm", "-f", "box")
			})
			t.Run("output", func(t *testing.T) {
				s := show(t, e, client, "run", "-t", "--rm", image, "sh", "-c", "echo out; echo err >&2; test -t 1 && echo terminal")
				s.wants(0)
				for _, want := range []string{"out\r", "err\r", "terminal\r"} {
					if !strings.Contains(s.out.String(), want) {
						t.Errorf("no %q in %q", want, s.out.String())
					}
				}
			})
		})
	}
}
