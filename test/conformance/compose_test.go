package conformance

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lade/internal/need"
	"lade/test/harness"
)

// project is a Compose file in a directory of its own, and a Compose that works
// on it. Every step counts as a check.
type project struct {
	*testing.T
	e       *harness.Engine
	compose []string // the program
	dir     string
	env     []string
	got     *tally
	one     bool // it is docker-compose 1
}

// command is Compose with arguments.
func (p *project) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(p.Context(), need.Patience(2*time.Minute))
	p.Cleanup(cancel)
	all := slices.Concat(p.compose, args)
	cmd := exec.CommandContext(ctx, all[0], all[1:]...)
	cmd.Dir = p.dir
	cmd.Env = append(p.e.Command("lade").Env, p.env...)
	return cmd
}

// count notes how a check ended.
func (p *project) count(what string, err error) {
	p.Helper()
	if err != nil {
		p.got.fail++
		p.Errorf("%s: %v", what, err)
		return
	}
	p.got.pass++
}

// do runs Compose, which must succeed, and returns what it prints.
func (p *project) do(args ...string) string {
	p.Helper()
	return p.ends(0, args...)
}

// up is the first `up`, without which nothing else makes sense.
func (p *project) up(args ...string) {
	p.Helper()
	failed := p.got.fail
	if p.do(append([]string{"up", "-d"}, args...)...); p.got.fail > failed {
		p.FailNow()
	}
}

// engine runs lade, and ends the project's test if it fails.
func (p *project) engine(args ...string) string {
	p.Helper()
	out, stderr, code := p.e.Try(args...)
	if code != 0 {
		p.Fatalf("lade %s: %s", strings.Join(args, " "), stderr)
	}
	return strings.TrimSpace(out)
}

// ends runs Compose, which must end with a code, and returns its output.
func (p *project) ends(code int, args ...string) string {
	p.Helper()
	cmd := p.command(args...)
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	err := cmd.Run()
	got := 0
	if ee, ok := errors.AsType[*exec.ExitError](err); ok {
		got, err = ee.ExitCode(), nil
	}
	if err == nil && got != code {
		err = fmt.Errorf("exit code %d, want %d\n%s%s", got, code, out.String(), messages.String())
	}
	p.count(strings.Join(args, " "), err)
	return out.String()
}

// shows runs Compose, whose output must contain texts.
func (p *project) shows(args []string, texts ...string) {
	p.Helper()
	out, err := p.command(args...).CombinedOutput()
	for _, text := range texts {
		if err == nil && !strings.Contains(string(out), text) {
			err = fmt.Errorf("no %q", text)
		}
	}
	if err != nil {
		err = fmt.Errorf("%w in\n%s", err, out)
	}
	p.count(strings.Join(args, " "), err)
}

// until runs Compose again and again, until the output contains a text.
func (p *project) until(text string, args ...string) {
	p.Helper()
	end := time.Now().Add(need.Patience(time.Minute))
	for {
		out, err := p.command(args...).CombinedOutput()
		if err == nil && strings.Contains(string(out), text) {
			p.count(strings.Join(args, " "), nil)
			return
		}
		if time.Now().After(end) {
			p.count(strings.Join(args, " "), fmt.Errorf("never %q: %v\n%s", text, err, out))
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// holds counts a condition.
func (p *project) holds(what string, ok bool, detail any) {
	p.Helper()
	var err error
	if !ok {
		err = fmt.Errorf("is not so: %v", detail)
	}
	p.count(what, err)
}

// beside starts Compose; the test gets its output by lines, and ends it.
func (p *project) beside(args ...string) (lines <-chan string, stop func()) {
	p.Helper()
	cmd := p.command(args...)
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	cmd.WaitDelay = time.Second
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		p.Fatal(err)
	}
	c := make(chan string, 1000)
	go func() {
		defer close(c)
		for s := bufio.NewScanner(out); s.Scan(); {
			c <- s.Text()
		}
	}()
	return c, func() {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		_ = cmd.Wait()
		in.Close()
	}
}

// hears waits for a line with a text.
func (p *project) hears(what string, lines <-chan string, text string) {
	p.Helper()
	late := time.After(need.Patience(time.Minute))
	var seen bytes.Buffer
	for {
		select {
		case l, ok := <-lines:
			if strings.Contains(l, text) {
				p.count(what, nil)
				return
			}
			fmt.Fprintln(&seen, l)
			if ok {
				continue
			}
		case <-late:
		}
		p.count(what, fmt.Errorf("never %q in\n%s", text, seen.String()))
		return
	}
}

// get asks a published port of a service over HTTP, from the host.
func (p *project) get(service, port, path, text string) {
	p.Helper()
	address := strings.TrimSpace(p.do("port", service, port))
	var err error
	for end := time.Now().Add(need.Patience(30 * time.Second)); ; time.Sleep(100 * time.Millisecond) {
		var out string
		if out, err = fetch(p.Context(), "http://"+address+path); err == nil && strings.Contains(out, text) {
			break
		}
		if time.Now().After(end) {
			err = fmt.Errorf("no %q: %v %s", text, err, out)
			break
		}
	}
	p.count("GET "+path+" from "+service, err)
}

// open makes a project of a directory of testdata/compose; its end is `down`.
func (c *composer) open(t *testing.T, name string) *project {
	t.Helper()
	p := &project{T: t, e: c.e, compose: c.command, dir: filepath.Join(t.TempDir(), name), got: &c.got, one: c.one, env: append([]string{"NET=" + c.net}, c.env...)}
	if err := os.CopyFS(p.dir, os.DirFS(filepath.Join("testdata", "compose", name))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd := p.command("--profile", "*", "down", "-v", "-t", "2")
		if c.one {
			cmd = p.command("down", "-v", "-t", "2")
		}
		cmd.Cancel = nil
		down := exec.Command(cmd.Path, cmd.Args[1:]...) // the test's context has ended
		down.Dir, down.Env = cmd.Dir, cmd.Env
		if out, err := down.CombinedOutput(); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
	})
	return p
}

// composer is a version of Compose and the engine it talks to.
type composer struct {
	e       *harness.Engine
	command []string
	env     []string
	net     string // of a subnet that nobody has, the first three numbers
	one     bool   // it is docker-compose 1
	got     tally
}
