package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"lade/internal/cli/app"
)

var (
	// prompt is what stands before a command in a block of a document: the sign of
	// a shell, what is piped into it, variables, or the directory of the programs.
	prompt = regexp.MustCompile(`^(?:\w*[$#] )?(?:.*?\| )?(?:[A-Z_]+=\S+ )*(?:bin/|\./)?(lade|docker) `)
	// shellWord is a word as the shell takes it, as far as documents quote.
	shellWord = regexp.MustCompile(`(?:'[^']*'|"[^"]*"|[^\s'"])+`)
	// span is a command in running text.
	span = regexp.MustCompile("`(lade|docker) ([^`]*)`")
)

// documented returns the arguments of a command in a line of a block, up to what
// the shell keeps for itself; nil where the line is something else.
func documented(line string) (args []string) {
	m := prompt.FindString(line)
	if m == "" {
		return nil
	}
	for _, w := range shellWord.FindAllString(line[len(m):], -1) {
		if w == "#" || strings.ContainsAny(w[:1], "<>|&") {
			break
		}
		w, ends := strings.CutSuffix(w, ";")
		args = append(args, strings.NewReplacer("'", "", `"`, "").Replace(w))
		if ends {
			break
		}
	}
	return args
}

// parse reports what is wrong with a command that a document shows.
func (r *root) parse(args []string) error {
	c, rest := r.find(args)
	if s := r.specs[c]; s == nil || s.Sub != nil {
		return errors.New("no such command")
	}
	r.build(c)
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	return c.ValidateArgs(c.Flags().Args())
}

// named reports what is wrong with a command that running text speaks of, often
// without its arguments, and with some that stand for others.
func (r *root) named(words []string) error {
	if strings.HasPrefix(words[0], "-") || strings.ToUpper(words[0]) == words[0] {
		return nil // global flags; COMMAND
	}
	c, rest := r.find(words)
	if c == r.Command {
		return errors.New("no such command")
	}
	if s := r.specs[c]; s != nil && s.Sub == nil {
		r.build(c)
	}
	for _, w := range rest {
		flag, long := strings.CutPrefix(strings.Trim(w, "[]"), "--")
		flag, _, _ = strings.Cut(flag, "=")
		if long && !strings.HasSuffix(flag, "…") && c.Flags().Lookup(flag) == nil && flag != "help" {
			return fmt.Errorf("no flag --%s", flag)
		}
	}
	return nil
}

// elsewhere are commands of plugins, cobra's own, and those of Docker's that documents
// say are not there.
var elsewhere = regexp.MustCompile(`^(compose|completion|trust|manifest|plugin)\b`)

// TestDocuments: commands that documents show are there, with their flags and as
// many arguments.
func TestDocuments(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	shown, spoken := 0, 0
	for _, page := range append(pages, "../../README.md", "../../SCOPE.md", "../../ARCHITECTURE.md") {
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		n, block := 0, false
		for line := range strings.Lines(strings.ReplaceAll(string(raw), "\\\n", " ")) {
			n++
			r := newRoot(app.New(nil, io.Discard, io.Discard))
			if strings.HasPrefix(line, "```") {
				block = !block
			} else if block {
				for part := range strings.SplitSeq(line, "; ") {
					args := documented(part)
					if len(args) == 0 || elsewhere.MatchString(args[0]) {
						continue
					}
					shown++
					if err := r.parse(args); err != nil {
						t.Errorf("%s:%d: %q: %v", page, n, args, err)
					}
				}
			} else {
				for _, m := range span.FindAllStringSubmatch(line, -1) {
					if words := strings.Fields(m[2]); !elsewhere.MatchString(m[2]) {
						spoken++
						if err := r.named(words); err != nil {
							t.Errorf("%s:%d: %s: %v", page, n, m[0], err)
						}
					}
				}
			}
		}
	}
	if shown < 50 || spoken < 40 {
		t.Errorf("only %d commands and %d names of commands were found: they are written in another way", shown, spoken)
	}
}

// TestDocumented: commands are found in lines, and what is not there is told.
func TestDocumented(t *testing.T) {
	for line, want := range map[string]string{
		"$ lade run -d -e 'A=b c' nginx   # as in Docker": `["run" "-d" "-e" "A=b c" "nginx"] <nil>`,
		"pass show db | lade secret create db -":          `["secret" "create" "db" "-"] <nil>`,
		"DOCKER_HOST=unix:///x docker ps":                 `["ps"] <nil>`,
		"host1$ lade nosuch x >out":                       `["nosuch" "x"] no such command`,
		"bin/lade ps --nosuch":                            `["ps" "--nosuch"] unknown flag: --nosuch`,
		"lade rename a":                                   `["rename" "a"] lade: 'lade rename' requires 2 arguments`,
		"laded -H unix:///run/lade.sock":                  `[] <nil>`,
	} {
		r := newRoot(app.New(nil, io.Discard, io.Discard))
		args := documented(line)
		var err error
		if args != nil {
			err = r.parse(args)
		}
		got, _, _ := strings.Cut(fmt.Sprintf("%q %v", args, err), "\n")
		if got != want {
			t.Errorf("%s\ngot  %s\nwant %s", line, got, want)
		}
	}
	for text, want := range map[string]string{
		"lade logs --clear CONTAINER": "<nil>", "lade COMMAND --help": "<nil>", "lade -H ssh://x": "<nil>", "lade update --net-rate-…": "<nil>",
		"lade gone": "no such command", "lade logs --gone": "no flag --gone", "lade volume": "<nil>",
	} {
		r := newRoot(app.New(nil, io.Discard, io.Discard))
		if got := fmt.Sprint(r.named(strings.Fields(text)[1:])); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
