package snapshottest

import (
	"path/filepath"
	"testing"
	"time"

	"lade/internal/linux/quota"
	"lade/internal/need"
)

// Projects runs f on each file system with project quotas, with a directory of
// its own. What the kernel has no such quotas for is skipped with the reason:
// `make test-vm` runs them on one that has.
func Projects(t *testing.T, f func(t *testing.T, root string)) {
	for _, d := range []Disk{
		{Type: "ext4", Mkfs: []string{"mkfs.ext4", "-q", "-O", "quota,project"}, From: "e2fsprogs", Options: "prjquota", Size: 256 << 20},
		{Type: "xfs", Mkfs: []string{"mkfs.xfs", "-q"}, From: "xfsprogs", Options: "prjquota", Size: 512 << 20},
	} {
		t.Run(d.Type, func(t *testing.T) {
			dir, err := d.Try(t)
			if err != nil {
				t.Skipf("this kernel has no project quotas of %s: %v", d.Type, err)
			}
			ok(t, quota.Check(dir))
			f(t, filepath.Join(dir, "root"))
		})
	}
}

// Project checks limits by project quota: what Full does, and that nothing of
// a removed snapshot's account stays.
func Project(t *testing.T, open Factory) {
	Projects(t, func(t *testing.T, root string) {
		d, err := open(root)
		ok(t, err)
		layer(t, d, "base", "", func(dir string) { write(t, dir, "f", "1") })
		t.Run("fill", func(t *testing.T) { Full(t, d, "base", 16<<20) }) // whose end unmounts
		dir, err := d.Dir(t.Context(), "limited")
		ok(t, err)
		dir = filepath.Dir(dir)
		if used, most, err := quota.Usage(dir); err != nil || most != 16<<20 || used < 8<<20 || used > 16<<20 {
			t.Errorf("%d of %d bytes used, %v", used, most, err)
		}
		ok(t, d.Close())

		// The limit outlives the driver; its number is used again.
		d, err = open(root)
		ok(t, err)
		t.Run("again", func(t *testing.T) { fill(t, view(t, d, "limited"), 32<<20, false) })
		ok(t, d.Remove(t.Context(), "limited"))
		ok(t, d.Remove(t.Context(), "neighbour"))
		ok(t, d.Close())
		Released(t, root)
	})
}

// Released checks that no project below root has a limit any more.
func Released(t testing.TB, root string) {
	t.Helper()
	// XFS deletes inodes in the background (Linux 5.14).
	for end := time.Now().Add(need.Patience(30 * time.Second)); ; time.Sleep(10 * time.Millisecond) {
		n, err := quota.Count(root)
		if err == nil && n == 0 {
			return
		}
		if err != nil || time.Now().After(end) {
			t.Errorf("%d projects are left, %v", n, err)
			return
		}
	}
}
