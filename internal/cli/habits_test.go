package cli

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"lade/internal/cli/app"
	"lade/internal/need"
)

// TestSuggestions mistypes commands and flags.
func TestSuggestions(t *testing.T) {
	f := newFake(t)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("DOCKER_HOST", "unix://"+f.socket)
	for line, want := range map[string]string{
		"pss":             "Did you mean 'lade ps'?",
		"conatiner ls":    "Did you mean 'lade container'?",
		"container lss":   "Did you mean 'lade container ls'?",
		"vol ls":          "Did you mean 'lade volume'?",
		"secert ls":       "Did you mean 'lade secret'?",
		"run --nmae x y":  "Did you mean '--name'?",
		"run --volum x y": "Did you mean '--volume'?",
		"nosuch":          "",
		"ps --nosuch":     "",
	} {
		r := f.lade("", strings.Fields(line)...)
		_, got, _ := strings.Cut(r.Stderr, "more information\n")
		if got = strings.TrimSpace(got); got != want || r.Code == 0 || r.Stdout != "" {
			t.Errorf("%s: %q, exit code %d", line, got, r.Code)
		}
	}
}

// TestExamples parses every example that help and the manual show.
func TestExamples(t *testing.T) {
	seen := 0
	r := newRoot(app.New(nil, io.Discard, io.Discard))
	for path, all := range examples() {
		for _, e := range all {
			seen++
			// Quotes as the shell takes them, as far as the examples use them.
			var args []string
			for _, w := range regexp.MustCompile(`'[^']*'|"[^"]*"|\S+`).FindAllString(e.line, -1) {
				args = append(args, strings.Trim(w, `'"`))
			}
			c, rest := r.find(args)
			if s := r.specs[c]; s == nil || s.Sub != nil || r.examplesOf(c) == nil {
				t.Errorf("%s: %q is no command", path, e.line)
				continue
			}
			r.build(c)
			if err := c.ParseFlags(rest); err != nil {
				t.Errorf("%q: %v", e.line, err)
			}
			if err := c.ValidateArgs(c.Flags().Args()); err != nil {
				t.Errorf("%q: %v", e.line, err)
			}
		}
	}
	if seen < 50 {
		t.Errorf("%d examples", seen)
	}
}

// TestManual writes the pages; groff, where it is, has nothing to complain of.
func TestManual(t *testing.T) {
	dir := t.TempDir()
	n, err := Manual(dir)
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	r := newRoot(app.New(nil, io.Discard, io.Discard))
	var count func(*cobra.Command)
	count = func(c *cobra.Command) {
		commands++
		for _, s := range c.Commands() {
			if !s.Hidden && r.specs[s] != nil {
				count(s)
			}
		}
	}
	count(r.Command)
	if n != commands || n < 100 {
		t.Errorf("%d pages of %d commands", n, commands)
	}
	page, err := os.ReadFile(filepath.Join(dir, "lade-run.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`.TH "LADE\-RUN" 1`, "lade run [OPTIONS] IMAGE [COMMAND] [ARG...]", `\fB\-\-publish\fR`, `lade run \-\-rm \-it debian bash`} {
		if !strings.Contains(string(page), want) {
			t.Errorf("lade-run.1 lacks %q", want)
		}
	}
	if home, err := os.UserHomeDir(); err == nil {
		if top, err := os.ReadFile(filepath.Join(dir, "lade.1")); err != nil || bytes.Contains(top, []byte(roff(home+"/"))) {
			t.Errorf("lade.1 has this user's home: %v", err)
		}
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Log("groff is not there to read the pages")
		return
	}
	out, err := exec.CommandContext(t.Context(), groff, "-man", "-Tascii", "-ww", "-z", filepath.Join(dir, "lade.1"), filepath.Join(dir, "lade-run.1"), filepath.Join(dir, "lade-ps.1")).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("groff: %v\n%s", err, out)
	}
}

// TestLogColours follows two containers on a terminal, with and without NO_COLOR.
func TestLogColours(t *testing.T) {
	f := newFake(t)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("DOCKER_HOST", "unix://"+f.socket)
	t.Setenv("TERM", "xterm")
	for no, want := range map[string]string{"": "\x1b[36mfull |\x1b[0m ", "1": "full | "} {
		t.Setenv("NO_COLOR", no)
		ours, theirs := openTerminal(t)
		var s need.Buffer
		go io.Copy(&s, ours)
		if code := Main([]string{"lade", "logs", "full", "full"}, nil, theirs, theirs); code != 0 {
			t.Errorf("exit code %d: %s", code, s.String())
		}
		need.Eventually(t, "lines", func() bool { return strings.Contains(s.String(), "full") && strings.Count(s.String(), "\n") >= 2 })
		if text := s.String(); !strings.Contains(text, want) || no != "" && strings.Contains(text, "\x1b[") {
			t.Errorf("NO_COLOR=%s: %q", no, text)
		}
	}
}

// TestNarrow lists containers on terminals of several widths.
func TestNarrow(t *testing.T) {
	f := newFake(t)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("DOCKER_HOST", "unix://"+f.socket)
	for _, width := range []int{80, 100, 250} {
		ours, theirs := openTerminal(t)
		resize(t, theirs, width)
		var s need.Buffer
		go io.Copy(&s, ours)
		if code := Main([]string{"lade", "ps", "-a"}, nil, theirs, theirs); code != 0 {
			t.Fatalf("exit code %d", code)
		}
		piped := f.lade("", "ps", "-a").Stdout
		need.Eventually(t, "the table", func() bool { return strings.Count(s.String(), "\n") == strings.Count(piped, "\n") })
		widest := 0
		for l := range strings.Lines(s.String()) {
			widest = max(widest, len([]rune(strings.TrimRight(l, "\r\n"))))
		}
		full := strings.Contains(s.String(), "COMMAND")
		if widest > width || full != (width == 250) || !strings.Contains(s.String(), "NAMES") {
			t.Errorf("at %d columns the table has %d:\n%s", width, widest, s.String())
		}
	}
}
