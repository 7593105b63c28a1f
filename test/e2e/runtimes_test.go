package e2e

import (
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// TestRuntimes runs the scripts again, with lade's client, with every container
// in another runtime: what they see tells no difference, but where a script says
// so by a condition.
func TestRuntimes(t *testing.T) {
	need.Root(t)
	for name, flags := range harness.Runtimes(t) {
		if name != "own" { // TestScripts
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				scripts(t, "testdata", "lade", name, flags...)
			})
		}
	}
}
