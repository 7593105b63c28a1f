package devicemapper

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	dm "lade/internal/linux/devicemapper"
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

// options are those of a small pool.
func options(t testing.TB, more map[string]string) Options {
	t.Helper()
	values := map[string]string{"dm.basesize": "64M", "dm.loopdatasize": "2G", "dm.loopmetadatasize": "16M"}
	for k, v := range more {
		values[k] = v
	}
	o, err := Parse(values)
	ok(t, err)
	return o
}

// kernel skips a test where the kernel has no thin pools, of which the driver
// must say so. `make test-vm` runs it on one that has.
func kernel(t *testing.T) {
	t.Helper()
	need.Root(t)
	err := Probe(t.TempDir())
	if err == nil {
		return
	}
	if errdefs.KindOf(err) != errdefs.Unavailable {
		t.Errorf("%v", err)
	}
	if _, err := New(t.Context(), t.TempDir(), options(t, nil), slog.New(slog.DiscardHandler)); errdefs.KindOf(err) != errdefs.Unavailable {
		t.Errorf("%v", err)
	}
	t.Skipf("%v", err)
}

// memory lets temporary directories be in memory.
func memory(t *testing.T) { t.Setenv("TMPDIR", "/dev/shm") }

func TestConformance(t *testing.T) {
	memory(t)
	kernel(t)
	before := active(t)
	snapshottest.Run(t, func(root string) (snapshot.Snapshotter, error) {
		return New(t.Context(), root, options(t, nil), slog.New(slog.DiscardHandler))
	})
	if after := active(t); after > before {
		t.Errorf("%d devices are left", after-before)
	}
}

// active counts the devices there are.
func active(t *testing.T) int {
	t.Helper()
	c, err := dm.Open()
	ok(t, err)
	defer c.Close()
	all, err := c.List()
	ok(t, err)
	return len(all)
}

// TestXFS keeps files on XFS, whose snapshots have the same identity, and which
// grows otherwise.
func TestXFS(t *testing.T) {
	memory(t)
	kernel(t)
	need.Program(t, "mkfs.xfs", "Debian's xfsprogs")
	d, err := New(t.Context(), t.TempDir(), options(t, map[string]string{"dm.fs": "xfs", "dm.basesize": "320M"}), slog.New(slog.DiscardHandler))
	ok(t, err)
	defer func() { ok(t, d.Close()) }()
	ctx := t.Context()
	r, err := d.Prepare(ctx, "active", "")
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(r.Path, "a"), []byte("1"), 0o600))
	ok(t, d.Commit(ctx, "base", "active"))
	var sizes []uint64
	for _, key := range []string{"small", "large"} { // mounted at the same time
		r, err := d.Prepare(ctx, key, "base")
		ok(t, err)
		if key == "large" {
			ok(t, d.Limit(ctx, key, 640<<20))
		}
		if b, err := os.ReadFile(filepath.Join(r.Path, "a")); err != nil || string(b) != "1" {
			t.Errorf("%s: %q, %v", key, b, err)
		}
		var st unix.Statfs_t
		ok(t, unix.Statfs(r.Path, &st))
		sizes = append(sizes, st.Blocks*uint64(st.Bsize))
	}
	if sizes[1]-sizes[0] != 320<<20 {
		t.Errorf("sizes: %v", sizes)
	}
}

// TestLimit fills devices of the base's size and larger ones.
func TestLimit(t *testing.T) {
	memory(t)
	kernel(t)
	root := t.TempDir()
	d, err := New(t.Context(), root, options(t, nil), slog.New(slog.DiscardHandler))
	ok(t, err)
	limits(t, d, 64<<20)
	ok(t, d.Close())
	if d, err = New(t.Context(), root, options(t, map[string]string{"dm.basesize": "1G", "dm.blocksize": "256K"}), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	defer func() { ok(t, d.Close()) }()
	if d.base.Size != 64<<20 {
		t.Errorf("the base has %d bytes", d.base.Size)
	}
	r, err := d.Root(t.Context(), "large") // the size is remembered
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(r.Path, "f"), make([]byte, 100<<20), 0o600))
}

// limits checks two snapshots on one parent, of the size of the base and twice
// that and a bit.
func limits(t *testing.T, d *Driver, base int64) {
	t.Helper()
	ctx := t.Context()
	r, err := d.Prepare(ctx, "active", "")
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(r.Path, "a"), []byte("1"), 0o600))
	ok(t, d.Commit(ctx, "base", "active"))
	small, err := d.Prepare(ctx, "small", "base")
	ok(t, err)
	large, err := d.Prepare(ctx, "large", "base")
	ok(t, err)
	if err := d.Limit(ctx, "large", base/2); errdefs.KindOf(err) != errdefs.Invalid {
		t.Errorf("less than the base: %v", err)
	}
	room := max(64<<20, base/2) // for what the file system needs itself
	ok(t, d.Limit(ctx, "large", 2*base+room))
	fill := func(dir string, size int64) error {
		err := os.WriteFile(filepath.Join(dir, "f"), make([]byte, size), 0o600)
		if err == nil {
			err = os.Remove(filepath.Join(dir, "f"))
		}
		return err
	}
	if err := fill(small.Path, base); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a full device: %v", err)
	}
	ok(t, fill(large.Path, 2*base))
	if err := fill(large.Path, 2*base+2*room); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("beyond the limit: %v", err)
	}
	os.Remove(filepath.Join(large.Path, "f"))
	if b, err := os.ReadFile(filepath.Join(large.Path, "a")); err != nil || string(b) != "1" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestFull refuses new snapshots when the pool is nearly full.
func TestFull(t *testing.T) {
	memory(t)
	kernel(t)
	d, err := New(t.Context(), t.TempDir(), options(t, map[string]string{"dm.loopdatasize": "48M", "dm.min_free_space": "50%"}), slog.New(slog.DiscardHandler))
	ok(t, err)
	defer func() { ok(t, d.Close()) }()
	r, err := d.Prepare(t.Context(), "box", "")
	ok(t, err)
	f, err := os.Create(filepath.Join(r.Path, "f"))
	ok(t, err)
	defer f.Close()
	_, err = f.Write(make([]byte, 24<<20))
	ok(t, errors.Join(err, f.Sync(), f.Close()))
	if _, err := d.Prepare(t.Context(), "more", ""); errdefs.KindOf(err) != errdefs.Exhausted {
		t.Errorf("%v", err)
	}
	ok(t, d.Remove(t.Context(), "box"))
}

func TestParse(t *testing.T) {
	o, err := Parse(map[string]string{"dm.thinpooldev": "vg-pool", "dm.fs": "xfs", "dm.basesize": "20G", "dm.blocksize": "512K", "dm.min_free_space": "5%"})
	if err != nil || o.ThinPool != "/dev/mapper/vg-pool" || o.FS != "xfs" || o.BaseSize != 20<<30 || o.BlockSize != 512<<10 || o.MinFree != 5 {
		t.Errorf("%+v, %v", o, err)
	}
	for k, v := range map[string]string{
		"dm.fs": "ntfs", "dm.basesize": "big", "dm.blocksize": "100K", "dm.loopdatasize": "1", "dm.min_free_space": "200%", "dm.color": "red",
	} {
		if _, err := Parse(map[string]string{k: v}); errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%s=%s: %v", k, v, err)
		}
	}
}
