package overlay2

import (
	"testing"

	"lade/internal/errdefs"
	"lade/internal/need"
	"lade/internal/snapshot/snapshottest"
)

// TestLimit fills snapshots that have limits.
func TestLimit(t *testing.T) {
	need.Root(t)
	snapshottest.Project(t, open)
}

// TestNoLimit checks what is said where the file system has no quotas.
func TestNoLimit(t *testing.T) {
	need.Root(t)
	t.Setenv("TMPDIR", "/dev/shm")
	d, err := open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Prepare(t.Context(), "box", ""); err != nil {
		t.Fatal(err)
	}
	if err := d.Limit(t.Context(), "box", 1<<20); errdefs.KindOf(err) != errdefs.Unavailable {
		t.Errorf("%v", err)
	}
}
