package e2e

import (
	"path/filepath"
	"testing"

	"lade/internal/need"
)

// TestStorage runs testdata/storage/*.txt: commit and volumes. The second time
// root in containers is nobody outside, the third snapshots are whole trees, which
// matters to commit only.
func TestStorage(t *testing.T) {
	need.Root(t)
	dir := filepath.Join("testdata", "storage")
	t.Run("docker", func(t *testing.T) { scripts(t, dir, "docker", "own") })
	t.Run("userns", func(t *testing.T) { scripts(t, dir, "lade", "userns", "--userns-remap=default") })
	t.Run("vfs", func(t *testing.T) { scripts(t, dir, "lade", "vfs", "--storage-driver=vfs") })
}
