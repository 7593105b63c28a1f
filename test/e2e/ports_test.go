package e2e

import (
	"path/filepath"
	"testing"

	"lade/internal/need"
)

// TestPublish runs testdata/ports/*.txt: how ports are published, and how that is
// changed.
func TestPublish(t *testing.T) {
	need.Root(t)
	for _, cli := range []string{"lade", "docker"} {
		t.Run(cli, func(t *testing.T) {
			t.Parallel()
			scripts(t, filepath.Join("testdata", "ports"), cli, "own")
		})
	}
}
