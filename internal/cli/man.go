package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/terminal"
)

// Manual writes a manual page of section 1 for every command to dir, from the
// same table as help, and returns how many.
//
// Source: groff_man(7).
func Manual(dir string) (int, error) {
	r := newRoot(&app.Env{In: terminal.NewIn(nil), Out: terminal.NewOut(nil), Err: terminal.NewOut(nil)})
	return r.manual(dir, r.Command)
}

func (r *root) manual(dir string, c *cobra.Command) (n int, err error) {
	r.build(c)
	name := strings.ReplaceAll(c.CommandPath(), " ", "-")
	if err := os.WriteFile(filepath.Join(dir, name+".1"), []byte(r.page(c, name)), 0o644); err != nil {
		return n, err
	}
	n++
	for _, s := range c.Commands() {
		if s.Hidden || r.specs[s] == nil {
			continue
		}
		more, err := r.manual(dir, s)
		if n += more; err != nil {
			return n, err
		}
	}
	return n, nil
}

// page is one command's.
func (r *root) page(c *cobra.Command, name string) string {
	var b strings.Builder
	section := func(title string) { b.WriteString(".SH " + title + "\n") }
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"lade %s\" \"User Commands\"\n", roffWord(strings.ToUpper(name)), app.Version)
	section("NAME")
	b.WriteString(roff(name) + ` \- ` + roff(c.Short) + "\n")
	section("SYNOPSIS")
	use := c.UseLine()
	if c.HasSubCommands() {
		use = c.CommandPath() + " [OPTIONS] COMMAND [ARG...]"
	}
	b.WriteString(".nf\n" + roff(use) + "\n.fi\n")
	section("DESCRIPTION")
	text := c.Long
	if text == "" {
		text = c.Short
	}
	for _, p := range strings.Split(strings.TrimSpace(text), "\n") {
		if p == "" {
			b.WriteString(".PP\n")
			continue
		}
		b.WriteString(roff(p) + "\n.br\n")
	}
	if c.HasSubCommands() {
		section("COMMANDS")
		for _, s := range c.Commands() {
			if spec := r.specs[s]; spec != nil && !s.Hidden {
				b.WriteString(".TP\n.B " + roffWord(s.Name()) + "\n" + roff(s.Short) + ". See \\fB" + roff(name+"-"+s.Name()) + "\\fR(1).\n")
			}
		}
	}
	if c.HasAvailableFlags() {
		section("OPTIONS")
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				b.WriteString(option(f))
			}
		})
	}
	if all := r.examplesOf(c); len(all) > 0 {
		section("EXAMPLES")
		for _, e := range all {
			b.WriteString(".PP\n" + roff(e.what) + ":\n.PP\n.RS 4\n.nf\n" + roff(app.Name+" "+e.line) + "\n.fi\n.RE\n")
		}
	}
	section("SEE ALSO")
	if c.HasParent() {
		parent := strings.ReplaceAll(c.Parent().CommandPath(), " ", "-")
		b.WriteString("\\fB" + roff(parent) + "\\fR(1)\n")
	} else {
		b.WriteString("\\fBdocker\\fR(1), https://docs.docker.com/reference/cli/docker/\n")
	}
	return b.String()
}

// option is a flag's entry.
func option(f *pflag.Flag) string {
	names := `\fB\-\-` + roff(f.Name) + `\fR`
	if f.Shorthand != "" {
		names = `\fB\-` + roff(f.Shorthand) + `\fR, ` + names
	}
	value, usage := pflag.UnquoteUsage(f)
	if value != "" && f.Value.Type() != "bool" {
		names += ` \fI` + roff(value) + `\fR`
	}
	out := ".TP\n" + names + "\n"
	for _, l := range strings.Split(usage, "\n") {
		out += roff(l) + "\n"
	}
	d := f.DefValue
	if home, err := os.UserHomeDir(); err == nil { // the page is for everybody
		d = strings.ReplaceAll(d, home, "~")
	}
	if d != "" && d != "0" && d != "false" && d != "[]" && d != "map[]" && d != "0s" && d != "<nil>" {
		out += "The default is " + roff(d) + ".\n"
	}
	return out
}

// roff is a text without meaning to groff.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}

// roffWord is one argument of a macro.
func roffWord(s string) string { return `"` + strings.ReplaceAll(roff(s), `"`, `\(dq`) + `"` }
