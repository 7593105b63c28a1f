package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"lade/internal/cli/app"
)

// help prints a command's help in the shape of Docker's.
func (r *root) help(c *cobra.Command, out io.Writer) {
	r.build(c)
	var b strings.Builder
	b.WriteString("Usage:  ")
	if c.HasSubCommands() {
		b.WriteString(c.CommandPath())
		if c.HasAvailableFlags() {
			b.WriteString(" [OPTIONS]")
		}
		b.WriteString(" COMMAND")
	} else {
		b.WriteString(c.UseLine())
	}
	text := c.Long
	if text == "" {
		text = c.Short
	}
	b.WriteString("\n\n" + strings.TrimSpace(text) + "\n")
	if a := r.aliases(c); a != "" {
		b.WriteString("\nAliases:\n  " + a + "\n")
	}
	if c.HasParent() && c.HasAvailableFlags() {
		b.WriteString("\nOptions:\n" + usages(c) + "\n")
	}
	r.lists(&b, c)
	if !c.HasParent() && c.HasAvailableFlags() {
		b.WriteString("\nGlobal Options:\n" + usages(c) + "\n")
	}
	r.writeExamples(&b, c)
	if c.HasSubCommands() {
		fmt.Fprintf(&b, "\nRun '%s COMMAND --help' for more information on a command.\n", c.CommandPath())
	}
	if !c.HasParent() {
		b.WriteString("\nEverything that speaks to Docker speaks to lade: https://docs.docker.com/reference/cli/docker/\n")
	}
	_, _ = io.WriteString(out, b.String())
}

func (r *root) aliases(c *cobra.Command) string {
	var names []string
	if s := r.specs[c]; s != nil && len(s.Paths) > 0 {
		for _, p := range s.Paths {
			names = append(names, app.Name+" "+p)
		}
	} else if len(c.Aliases) > 0 {
		names = append(names, c.CommandPath())
		for _, a := range c.Aliases {
			names = append(names, c.Parent().CommandPath()+" "+a)
		}
	}
	return strings.Join(names, ", ")
}

// lists prints the sub-commands: at the top the common ones, the groups and the
// others apart.
func (r *root) lists(b *strings.Builder, c *cobra.Command) {
	var common, groups, others []*cobra.Command
	for _, s := range c.Commands() {
		spec := r.specs[s]
		switch {
		case !s.IsAvailableCommand() || spec == nil:
		case spec.Top > 0 && !c.HasParent():
			common = append(common, s)
		case s.HasSubCommands():
			groups = append(groups, s)
		default:
			others = append(others, s)
		}
	}
	slices.SortFunc(common, func(a, z *cobra.Command) int { return r.specs[a].Top - r.specs[z].Top })
	for _, l := range []struct {
		title string
		list  []*cobra.Command
	}{{"Common Commands", common}, {"Management Commands", groups}, {"Commands", others}} {
		if len(l.list) == 0 {
			continue
		}
		b.WriteString("\n" + l.title + ":\n")
		for _, s := range l.list {
			fmt.Fprintf(b, "  %-11s %s\n", s.Name(), s.Short)
		}
	}
}

// usages are the flags, wrapped to the terminal.
func usages(c *cobra.Command) string {
	width := 80
	if w, _, err := term.GetSize(int(os.Stdin.Fd())); err == nil && w > 0 {
		width = w
	}
	// The library writes "--rm[=true|false]"; people expect "--rm".
	plain := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.Flags().VisitAll(func(f *pflag.Flag) {
		shown := *f
		if f.Value.Type() == "bool" {
			shown.Value = boolean{f.Value}
		}
		plain.AddFlag(&shown)
	})
	return strings.TrimRight(plain.FlagUsagesWrapped(width-1), " \n")
}

// boolean is a flag without a value in help.
type boolean struct{ pflag.Value }

func (boolean) Type() string { return "boolfunc" }
