package cli

import (
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/opt"
)

// TestWords compares, for every command, what both clients say of no arguments,
// of one too many, and of flags that are not there, lack their value, or have one
// that is none. Nothing of it reaches an engine.
func TestWords(t *testing.T) {
	f := newFake(t)
	r := newRoot(app.New(nil, io.Discard, io.Discard))
	n := 0
	var walk func(c *cobra.Command, path []string)
	walk = func(c *cobra.Command, path []string) {
		for _, s := range c.Commands() {
			if spec := r.specs[s]; spec != nil && !spec.Own {
				walk(s, append(path[:len(path):len(path)], s.Name()))
			}
		}
		if name := strings.Join(path, " "); slices.Contains(differs(), name) || strings.HasPrefix(name, "builder ") {
			return
		}
		if len(path) == 0 {
			return
		}
		for _, line := range wrong(r, c) {
			args := slices.Concat(path, line)
			t.Run(strings.Join(args, " "), func(t *testing.T) {
				n++
				d, l := f.both(t, "", 0, "", args...)
				d.Stderr, l.Stderr = sinceThen(d.Stderr), sinceThen(l.Stderr)
				d.Stderr, _, _ = strings.Cut(d.Stderr, "\n\nCommands:\n") // ours has more
				l.Stderr, _, _ = strings.Cut(l.Stderr, "\n\nCommands:\n")
				check(t, d, l)
			})
		}
	}
	walk(r.Command, nil)
	if n < 350 {
		t.Errorf("%d lines", n)
	}
}

// differs are commands that Docker does not have, those with which it speaks of the
// end of its builder first, and groups that it calls those of a swarm.
func differs() []string {
	return []string{
		"volume clone", "volume export", "volume import", "volume rename", "volume snapshot", "system reclaim",
		"build", "image build", "builder", "config", "secret",
	}
}

// sinceThen is what a newer version of Docker's client says in place of what 28.2
// did: its library for flags has found words, and a slip of the pen is mended.
func sinceThen(s string) string {
	s = strings.NewReplacer("\nSRun '", "\nRun '", `strconv.ParseBool: parsing "x": invalid syntax`, "must be true or false").Replace(s)
	number := regexp.MustCompile(`strconv.Parse(Ui|I)nt: parsing "much": invalid syntax`)
	return number.ReplaceAllStringFunc(s, func(found string) string {
		if strings.Contains(found, "ParseUint") {
			return "must be a non-negative integer"
		}
		return "must be an integer"
	})
}

// wrong are arguments that a command does not take.
func wrong(r *root, c *cobra.Command) [][]string {
	out := [][]string{{"--nosuch"}, {"-Z"}}
	s := r.specs[c]
	if s.Sub != nil {
		return append(out, nil, []string{"nosuch"})
	}
	if s.Args.Min > 0 {
		out = append(out, nil)
	}
	if s.Args.Min > 1 {
		out = append(out, slices.Repeat([]string{"x"}, s.Args.Min-1))
	}
	if s.Args.Max >= 0 && !s.More {
		out = append(out, slices.Repeat([]string{"x"}, s.Args.Max+1))
	}
	r.build(c)
	kinds := map[string]bool{}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		kind := f.Value.Type()
		if kinds[kind] || opt.IsOwn(f) || f.Hidden || f.Deprecated != "" {
			return
		}
		kinds[kind] = true
		switch {
		case f.NoOptDefVal == "":
			out = append(out, []string{"--" + f.Name})
			if f.Shorthand != "" {
				out = append(out, []string{"-" + f.Shorthand})
			}
			if strings.HasPrefix(kind, "int") || strings.HasPrefix(kind, "uint") || kind == "bytes" || kind == "duration" {
				out = append(out, []string{"--" + f.Name, "much"})
			}
		case kind == "bool":
			out = append(out, []string{"--" + f.Name + "=x"})
		}
	})
	return out
}
