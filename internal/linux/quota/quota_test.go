package quota_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/quota"
	"lade/internal/need"
)

// TestElsewhere checks that a file system without project quotas says so, and
// stays as it is. The tests of those that have them are in
// internal/snapshot/overlay2.
func TestElsewhere(t *testing.T) {
	need.Root(t)
	dir, err := os.MkdirTemp("/dev/shm", "lade-test-quota-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := quota.Check(dir); errdefs.KindOf(err) != errdefs.Unavailable {
		t.Errorf("check: %v", err)
	}
	if err := quota.Bound(dir, 1<<20); errdefs.KindOf(err) != errdefs.Unavailable {
		t.Errorf("bound: %v", err)
	}
	if err := quota.Bound(dir, 0); errdefs.KindOf(err) != errdefs.Invalid {
		t.Errorf("bound to nothing: %v", err)
	}
	if err := quota.Release(dir); err != nil {
		t.Errorf("release: %v", err)
	}
	if err := quota.Release(filepath.Join(dir, "missing")); err != nil {
		t.Errorf("release what is not there: %v", err)
	}
	if used, most, err := quota.Usage(dir); used != 0 || most != 0 || err != nil {
		t.Errorf("usage: %d of %d, %v", used, most, err)
	}
	if err := quota.Check(filepath.Join(dir, "missing")); !errors.Is(err, unix.ENOENT) {
		t.Errorf("check what is not there: %v", err)
	}
}
