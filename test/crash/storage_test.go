package crash

import (
	"os"
	"testing"

	"lade/internal/snapshot/snapshottest"
)

// TestPointsBtrfs ends the daemon where a snapshot has no record yet, with a
// driver whose snapshots are more than directories. LADE_PLACE is a pattern of
// other places.
func TestPointsBtrfs(t *testing.T) {
	disk := snapshottest.Disk{Type: "btrfs", Mkfs: []string{"mkfs.btrfs", "-q"}, From: "btrfs-progs", Size: 1 << 30}
	t.Setenv("TMPDIR", disk.Mount(t))
	if os.Getenv("LADE_PLACE") == "" {
		t.Setenv("LADE_PLACE", `^snapshot\.prepare$`)
	}
	points(t, "--storage-driver", "btrfs")
}
