package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
)

// didYouMean adds to a message the commands, or flags, that a word may be a slip
// of the finger for; without any the message stays Docker's.
func didYouMean(msg string, found []string) string {
	if len(found) == 0 {
		return msg
	}
	return msg + "\n\nDid you mean '" + strings.Join(found, "' or '") + "'?"
}

// commandsLike are the commands below c whose names are near to word.
func commandsLike(c *cobra.Command, word string) (out []string) {
	for _, s := range c.Commands() {
		if s.IsAvailableCommand() && near(word, s.Name()) {
			out = append(out, s.CommandPath())
		}
	}
	slices.Sort(out)
	return out[:min(len(out), 3)]
}

// flagLike is the flag of c whose name is nearest to what was not known; empty
// if none is near.
func flagLike(c *cobra.Command, err error) []string {
	unknown, ok := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !ok {
		return nil
	}
	best, least := "", 3
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if d := distance(unknown, f.Name); !f.Hidden && near(unknown, f.Name) && d < least {
			best, least = f.Name, d
		}
	})
	if best == "" {
		return nil
	}
	return []string{"--" + best}
}

// near reports whether one word may have been meant where the other was typed.
func near(typed, word string) bool {
	most := 2
	if len(typed) < 5 {
		most = 1
	}
	return typed != word && (distance(typed, word) <= most || len(typed) > 2 && strings.HasPrefix(word, typed))
}

// distance counts the letters to insert, delete, replace or swap with the next
// one to make one word of another (optimal string alignment).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range b {
		rows[0][j+1] = j + 1
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// unknownCommand is what is said of a word that is no command of c.
func unknownCommand(c *cobra.Command, word string) string {
	msg := app.Name + ": unknown command: " + c.CommandPath() + " " + word
	if c.HasParent() {
		msg += "\n\nUsage:  " + c.UseLine()
	}
	return didYouMean(msg+"\n\nRun '"+c.CommandPath()+" --help' for more information", commandsLike(c, word))
}
