package crash

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"lade/internal/need"
	"lade/test/harness"
)

// soon calls f until it returns nil, for at most thirty seconds.
func soon(t *testing.T, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(need.Patience(30 * time.Second)); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

func inspect(e *harness.Engine, name, format string) string {
	return e.Run("inspect", "--format", "{{"+format+"}}", name)
}

// wants fails the test unless a container's field has a value.
func wants(t *testing.T, e *harness.Engine, name, format, want string) {
	t.Helper()
	if got := inspect(e, name, format); got != want {
		t.Errorf("%s of %s is %q, want %q", format, name, got, want)
	}
}

// becomes waits for that value.
func becomes(t *testing.T, e *harness.Engine, name, format, want string) {
	t.Helper()
	soon(t, func() error {
		out, stderr, _ := e.Try("inspect", "--format", "{{"+format+"}}", name)
		if got := strings.TrimSuffix(out, "\n"); got != want {
			return fmt.Errorf("%s of %s is %q, want %q %s", format, name, got, want, stderr)
		}
		return nil
	})
}

// gone waits until there is no container of that name.
func gone(t *testing.T, e *harness.Engine, name string) {
	t.Helper()
	soon(t, func() error {
		if out, _, code := e.Try("inspect", name); code == 0 {
			return fmt.Errorf("%s is still there: %s", name, out)
		}
		return nil
	})
}

// count is a command that prints numbered lines for ever.
const count = "i=0; while :; do i=$((i+1)); echo line $i; usleep 2000; done"

// unbroken checks that lines are numbered from some number on without a gap,
// and returns the last one.
func unbroken(t *testing.T, what, lines string) int {
	t.Helper()
	return broken(t, what, lines, 0)
}

// broken is unbroken with some gaps allowed: a supervisor that is killed takes
// along what it has read from the process and not written to the log yet.
func broken(t *testing.T, what, lines string, gaps int) int {
	t.Helper()
	last := -1
	for line := range strings.Lines(lines) {
		if !strings.HasSuffix(line, "\n") {
			break // cut off while it was written
		}
		n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "line ")))
		if err != nil {
			t.Fatalf("%s: %q", what, line)
		}
		if last >= 0 && n != last+1 {
			if gaps--; gaps < 0 || n <= last {
				t.Fatalf("%s: line %d comes after %d", what, n, last)
			}
		}
		last = n
	}
	return last
}

// alive reports whether a process is there and no zombie.
func alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return len(rest) > 0 && rest[0] != 'Z'
}

// answers asks the web server behind a published port.
func answers(port string) error {
	c := http.Client{Timeout: need.Patience(30 * time.Second), Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get("http://127.0.0.1:" + port + "/page")
	if err != nil {
		return err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && string(b) != "here\n" {
		err = fmt.Errorf("the page is %q", b)
	}
	return err
}

// command is a client in the background. Its output is read until it ends.
type command struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	errOut bytes.Buffer
}

func begin(t *testing.T, e *harness.Engine, args ...string) *command {
	t.Helper()
	c := &command{cmd: e.Command("lade", args...)}
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	c.cmd.Stderr = &c.errOut
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.cmd.Process.Kill()
		c.cmd.Wait()
	})
	return c
}

func (c *command) line(t *testing.T) string {
	t.Helper()
	got := make(chan string, 1)
	go func() {
		l, err := c.out.ReadString('\n')
		if err != nil {
			l += err.Error()
		}
		got <- l
	}()
	select {
	case l := <-got:
		return strings.TrimSuffix(l, "\n")
	case <-time.After(need.Patience(30 * time.Second)):
		t.Fatalf("no line from %v: %s", c.cmd.Args, c.errOut.String())
		return ""
	}
}

// TestDaemonKilled kills laded while everything goes on, and starts it again.
func TestDaemonKilled(t *testing.T) {
	e := harness.Start(t)
	img := e.Import()
	port := harness.FreePort(t)

	e.Run("run", "-d", "--name", "log", img, "sh", "-c", count)
	e.Run("run", "-d", "--name", "web", "-p", port+":80", img, "sh", "-c", "mkdir /www; echo here >/www/page; exec httpd -f -p 80 -h /www")
	e.Run("run", "-d", "--name", "seven", img, "sh", "-c", "while [ ! -e /go ]; do usleep 10000; done; exit 7")
	e.Run("run", "-d", "--name", "auto", "--rm", "-v", "/anonymous", img, "sh", "-c", "while [ ! -e /go ]; do usleep 10000; done")
	e.Run("run", "-d", "--name", "always", "--restart", "always", img, "sh", "-c", "if [ -e /go ]; then sleep 1000; fi; while [ ! -e /go ]; do usleep 10000; done; exit 3")
	e.Run("run", "-d", "--name", "failing", "--restart", "on-failure:5", img, "sh", "-c", "if [ -e /go ]; then sleep 1000; fi; while [ ! -e /go ]; do usleep 10000; done; exit 4")
	e.Run("run", "-d", "--name", "held", "--restart", "unless-stopped", img, "sleep", "1000")
	e.Run("run", "-d", "--name", "frozen", img, "sleep", "1000")
	e.Run("create", "--name", "unborn", img, "true")
	e.Run("stop", "-t", "0", "held")
	e.Run("pause", "frozen")
	pid := inspect(e, "log", ".State.Pid")
	ip := inspect(e, "log", ".NetworkSettings.Networks.bridge.IPAddress")
	soon(t, func() error { return answers(port) })

	attached := begin(t, e, "attach", "log")
	attached.line(t)
	e.Run("run", "-d", "-i", "--name", "cat", img, "cat")
	cat := begin(t, e, "attach", "cat")
	fmt.Fprintln(cat.in, "before")
	if got := cat.line(t); got != "before" {
		t.Fatalf("attached: %q", got)
	}
	under := begin(t, e, "exec", "-i", "log", "sh", "-c", "echo ready; read x; echo got $x; exit 9")
	if got := under.line(t); got != "ready" {
		t.Fatalf("exec: %q", got)
	}
	waiting := begin(t, e, "wait", "seven")
	stopping := begin(t, e, "stop", "-t", "30", "log") // sh as process 1 ignores SIGTERM
	var ending []string
	for _, name := range []string{"seven", "auto", "always", "failing"} {
		ending = append(ending, inspect(e, name, ".State.Pid"))
	}
	time.Sleep(200 * time.Millisecond)

	e.Kill()
	_ = waiting.cmd.Wait() // their connection is gone
	_ = stopping.cmd.Wait()
	if err := answers(port); err != nil {
		t.Errorf("while the daemon is away: %v", err)
	}
	// What is attached does not depend on the daemon.
	fmt.Fprintln(cat.in, "while away")
	if got := cat.line(t); got != "while away" {
		t.Errorf("attached: %q", got)
	}
	fmt.Fprintln(under.in, "through")
	if got := under.line(t); got != "got through" {
		t.Errorf("exec: %q", got)
	}
	var followed strings.Builder
	for range 100 {
		followed.WriteString(attached.line(t) + "\n")
	}
	unbroken(t, "attached", followed.String())
	for _, pid := range ending {
		release(t, pid)
	}

	e.Launch()
	wants(t, e, "log", ".State.Status", "running")
	wants(t, e, "log", ".State.Pid", pid)
	wants(t, e, "log", ".NetworkSettings.Networks.bridge.IPAddress", ip)
	wants(t, e, "unborn", ".State.Status", "created")
	wants(t, e, "frozen", ".State.Status", "paused")
	wants(t, e, "held", ".State.Status", "exited")
	wants(t, e, "seven", ".State.Status", "exited")
	wants(t, e, "seven", ".State.ExitCode", "7")
	if got := e.Run("wait", "seven"); got != "7" {
		t.Errorf("wait: %s", got)
	}
	gone(t, e, "auto")
	if got := e.Run("volume", "ls", "-q"); got != "" {
		t.Errorf("the anonymous volume stays: %s", got)
	}
	becomes(t, e, "always", ".State.Status", "running")
	becomes(t, e, "failing", ".State.Status", "running")
	if err := answers(port); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	e.Run("unpause", "frozen")
	fmt.Fprintln(cat.in, "after")
	if got := cat.line(t); got != "after" {
		t.Errorf("attached: %q", got)
	}
	if got := e.Run("exec", "log", "echo", "hi"); got != "hi" {
		t.Errorf("exec: %q", got)
	}
	last := unbroken(t, "logs", e.Run("logs", "log")+"\n")
	soon(t, func() error {
		if now := unbroken(t, "logs", e.Run("logs", "log")+"\n"); now <= last {
			return fmt.Errorf("no line after %d", last)
		}
		return nil
	})
	e.Run("stop", "-t", "0", "log")
	wants(t, e, "log", ".State.ExitCode", "137")
	if alive(pid) {
		t.Error("it was stopped and runs")
	}
}

// release lets a container go on that waits for the file /go, and waits for
// its end.
func release(t *testing.T, pid string) {
	t.Helper()
	if err := os.WriteFile("/proc/"+pid+"/root/go", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	soon(t, func() error {
		if alive(pid) {
			return fmt.Errorf("process %s does not end", pid)
		}
		return nil
	})
}
