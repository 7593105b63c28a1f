package btrfs

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/btrfs"
	"lade/internal/snapshot"
	"lade/internal/snapshot/snapshottest"
)

// disk is the file system of these tests.
var disk = snapshottest.Disk{Type: "btrfs", Mkfs: []string{"mkfs.btrfs", "-q"}, From: "btrfs-progs", Size: 512 << 20}

func open(root string) (snapshot.Snapshotter, error) { return New(root, slog.New(slog.DiscardHandler)) }

func TestConformance(t *testing.T) {
	if !snapshottest.Victim() {
		t.Setenv("TMPDIR", disk.Mount(t))
	}
	snapshottest.Run(t, open)
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestElsewhere checks that the driver says why it cannot be used.
func TestElsewhere(t *testing.T) {
	_, err := New("/dev/shm/lade-test-none", slog.New(slog.DiscardHandler))
	os.Remove("/dev/shm/lade-test-none")
	if errdefs.KindOf(err) != errdefs.Unavailable {
		t.Errorf("%v", err)
	}
}

// TestNested removes a snapshot in which a container made subvolumes.
func TestNested(t *testing.T) {
	root := filepath.Join(disk.Mount(t), "root")
	d, err := open(root)
	ok(t, err)
	r, err := d.Prepare(t.Context(), "box", "")
	ok(t, err)
	top, err := os.Open(r.Path)
	ok(t, err)
	defer top.Close()
	ok(t, btrfs.Create(top, "inner"))
	ok(t, btrfs.Snapshot(top, top, "copy"))
	ok(t, os.WriteFile(filepath.Join(r.Path, "inner", "f"), []byte("x"), 0o600))
	top.Close()
	ok(t, d.Remove(t.Context(), "box"))
	ok(t, d.Close())
	if left, err := filepath.Glob(filepath.Join(root, "s", "*", "*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestLimit fills a snapshot up to its limit, and another one beyond that.
func TestLimit(t *testing.T) {
	root := filepath.Join(disk.Mount(t), "root")
	d, err := open(root)
	ok(t, err)
	defer func() { ok(t, d.Close()) }() // of the one that is open then
	_, err = d.Prepare(t.Context(), "active", "")
	ok(t, err)
	dir, err := d.Dir(t.Context(), "active")
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(dir, "base"), make([]byte, 32<<20), 0o600))
	ok(t, d.Commit(t.Context(), "base", "active"))
	snapshottest.Full(t, d, "base", 16<<20)

	// What the parent has is not counted, and limits outlive the driver.
	r, err := d.Prepare(t.Context(), "again", "base")
	ok(t, err)
	ok(t, d.Limit(t.Context(), "again", 16<<20))
	ok(t, d.Close())
	d, err = open(root)
	ok(t, err)
	if err := os.WriteFile(filepath.Join(r.Path, "f"), make([]byte, 24<<20), 0o600); !errors.Is(err, unix.EDQUOT) {
		t.Errorf("write beyond the limit: %v", err)
	}
}
