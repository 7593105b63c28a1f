package cli

import (
	"github.com/spf13/pflag"

	"lade/internal/cli/complete"
)

// prepareCompletion readies the tree for a shell's question what the last
// argument may become: the command that is typed is built, and no other. It
// returns the question without the global flags, which hold for the answer.
func (r *root) prepareCompletion(args []string) []string {
	typed := args[len(args)-1]
	before := args[1 : len(args)-1]
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.SetInterspersed(false)
	f.Usage = func() {}
	f.AddFlagSet(r.Flags())
	if err := f.Parse(before); err == nil {
		before = f.Args()
	}
	c, _ := r.find(before)
	if r.specs[c] != nil {
		r.build(c)
		complete.Command(r.env, c, r.specs[c])
	} else {
		complete.Root(r.env, r.Command)
	}
	return append(append([]string{args[0]}, before...), typed)
}
