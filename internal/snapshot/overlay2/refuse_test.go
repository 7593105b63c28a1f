package overlay2

import (
	"strings"
	"testing"

	"lade/internal/errdefs"
	"lade/internal/need"
	"lade/internal/snapshot/snapshottest"
)

// TestOldXFS checks that a file system which does not tell the types of entries
// is refused. New kernels cannot mount it any more.
func TestOldXFS(t *testing.T) {
	need.Root(t)
	old := snapshottest.Disk{Type: "xfs", Mkfs: []string{"mkfs.xfs", "-q", "-m", "crc=0", "-n", "ftype=0"}, From: "xfsprogs", Size: 512 << 20}
	dir, err := old.Try(t)
	if err != nil {
		t.Skipf("this kernel does not mount XFS version 4: %v", err)
	}
	if _, err := open(dir); errdefs.KindOf(err) != errdefs.Unavailable || !strings.Contains(err.Error(), "ftype=1") {
		t.Errorf("%v", err)
	}
}
