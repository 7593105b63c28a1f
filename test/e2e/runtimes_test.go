package e2e

import (
	"path/filepath"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// TestRuntimes runs the scripts again, with lade's client, with every container
// in another runtime: what they see tells no difference, but where a script says
// so by a condition.
func TestRuntimes(t *testing.T) {
	need.Root(t)
	for name, flags := range map[string][]string{
		"runc":   {"--add-runtime", "other=" + need.Program(t, "runc", "Debian's runc"), "--default-runtime", "other"},
		"itself": {"--add-runtime", "other=" + filepath.Join(harness.Bin(t), "lade-runtime"), "--default-runtime", "other"},
	} {
		t.Run(name, func(t *testing.T) { scripts(t, "testdata", "lade", name, flags...) })
	}
}
