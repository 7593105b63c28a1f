package zfs

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"lade/internal/errdefs"
	"lade/internal/need"
	"lade/internal/snapshot"
	"lade/internal/snapshot/snapshottest"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pool makes a pool in a file and returns its name, which is also that of its
// dataset, and where that is mounted. Where the machine has no ZFS the driver
// must say so, and the test is skipped; `make test-vm` has it.
func pool(t *testing.T) (name, dir string) {
	t.Helper()
	need.Root(t)
	raw, err := os.ReadFile("/proc/filesystems")
	ok(t, err)
	if _, err := exec.LookPath("zpool"); err != nil || !strings.Contains(string(raw), "\tzfs\n") {
		if err := Probe(t.TempDir()); errdefs.KindOf(err) != errdefs.Unavailable {
			t.Errorf("%v", err)
		}
		t.Skip("this machine has no ZFS")
	}
	name = "ladetest" + strconv.Itoa(os.Getpid())
	dir = t.TempDir()
	file := filepath.Join("/dev/shm", name)
	f, err := os.Create(file)
	ok(t, err)
	t.Cleanup(func() { os.Remove(file) })
	ok(t, errors.Join(f.Truncate(768<<20), f.Close()))
	_, err = run(t.Context(), "zpool", "create", "-O", "compression=off", "-m", dir, name, file)
	ok(t, err)
	t.Cleanup(func() {
		if _, err := run(context.Background(), "zpool", "destroy", name); err != nil {
			t.Error(err)
		}
	})
	return name, dir
}

func open(root string) (snapshot.Snapshotter, error) {
	return New(context.Background(), root, "", slog.New(slog.DiscardHandler))
}

func TestConformance(t *testing.T) {
	if snapshottest.Victim() {
		snapshottest.Run(t, open)
		return
	}
	name, dir := pool(t)
	t.Setenv("TMPDIR", dir)
	snapshottest.Run(t, open)
	// What a removed root leaves are its datasets; none of a snapshot is mounted.
	mounts, err := os.ReadFile("/proc/self/mounts")
	ok(t, err)
	if strings.Contains(string(mounts), name+"/lade-") {
		t.Errorf("mounted:\n%s", mounts)
	}
}

// TestLimit fills snapshots that have limits, in a dataset that is named.
func TestLimit(t *testing.T) {
	name, _ := pool(t)
	root := t.TempDir()
	if _, err := New(t.Context(), root, name+"/none", slog.New(slog.DiscardHandler)); errdefs.KindOf(err) != errdefs.Invalid {
		t.Errorf("%v", err)
	}
	d, err := New(t.Context(), root, name, slog.New(slog.DiscardHandler))
	ok(t, err)
	r, err := d.Prepare(t.Context(), "active", "")
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(r.Path, "base"), make([]byte, 32<<20), 0o600))
	ok(t, d.Commit(t.Context(), "base", "active"))
	snapshottest.Full(t, d, "base", 16<<20)
	for _, key := range []string{"limited", "neighbour", "base"} {
		ok(t, d.Remove(t.Context(), key))
	}
	if len(d.Status()) != 7 {
		t.Errorf("%v", d.Status())
	}
	ok(t, d.Close())
	if left, err := run(t.Context(), "zfs", "list", "-H", "-o", "name", "-r", d.top); err != nil || left != d.top {
		t.Errorf("left: %s, %v", left, err)
	}
}

func TestClassify(t *testing.T) {
	for complaint, want := range map[string]errdefs.Kind{
		"cannot open 'p/x': dataset does not exist":                     errdefs.NotFound,
		"cannot create 'p/x': dataset already exists":                   errdefs.Conflict,
		"cannot destroy 'p/x': dataset is busy":                         errdefs.Conflict,
		"cannot create 'p/x': out of space":                             errdefs.Exhausted,
		"could not find any snapshots to destroy; check snapshot names": errdefs.NotFound,
		"internal error": errdefs.Internal,
	} {
		if err := classify("zfs", nil, complaint, errors.New("exit status 1")); errdefs.KindOf(err) != want {
			t.Errorf("%s: %v", complaint, errdefs.KindOf(err))
		}
	}
	if _, err := run(t.Context(), "lade-no-such-program"); errdefs.KindOf(err) != errdefs.Unavailable {
		t.Errorf("%v", err)
	}
}
