package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/volume"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/need"
	"lade/internal/snapshot/snapshottest"
	"lade/internal/store"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, path, content string) {
	t.Helper()
	if got, err := os.ReadFile(path); string(got) != content {
		t.Errorf("%s: %q, %v; want %q", path, got, err, content)
	}
}

func kind(t *testing.T, what string, err error, want errdefs.Kind) {
	t.Helper()
	if errdefs.KindOf(err) != want {
		t.Errorf("%s: %v", what, err)
	}
}

// TestCopies: a clone and a snapshot have the files and are independent of the
// original; an export imports to the same; nothing is left of what failed.
func TestCopies(t *testing.T) {
	need.Root(t)
	v := fresh(t, t.TempDir())
	ctx := t.Context()
	vol, _, err := v.Create(ctx, volume.CreateRequest{Name: "orig", Labels: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, vol.Mountpoint+"/f", "1")
	if err := os.Chown(vol.Mountpoint, 5, 6); err != nil {
		t.Fatal(err)
	}
	c, err := v.Clone(ctx, "orig", Copy{Name: "clone"})
	if err != nil || c.Labels["a"] != "b" || c.Status != nil {
		t.Fatalf("a clone: %+v, %v", c, err)
	}
	s, err := v.Clone(ctx, "orig", Copy{Name: "snap", Snapshot: true})
	if err != nil || s.Labels[SnapshotOf] != "orig" || s.Status["ReadOnly"] != true || !v.ReadOnly("snap") {
		t.Fatalf("a snapshot: %+v, %v", s, err)
	}
	write(t, vol.Mountpoint+"/f", strings.Repeat("2", 3000))
	expect(t, c.Mountpoint+"/f", "1")
	expect(t, s.Mountpoint+"/f", "1")
	var tar bytes.Buffer
	if err := v.Export(ctx, "orig", &tar); err != nil {
		t.Fatal(err)
	}
	i, err := v.Import(ctx, "imported", map[string]string{"x": "y"}, bytes.NewReader(tar.Bytes()))
	if err != nil || i.Labels["x"] != "y" {
		t.Fatalf("an import: %+v, %v", i, err)
	}
	expect(t, i.Mountpoint+"/f", strings.Repeat("2", 3000))
	if fi, err := os.Stat(i.Mountpoint + "/f"); err != nil || fi.Mode().Perm() != 0o640 {
		t.Errorf("the mode of an imported file: %v, %v", fi, err)
	}
	// A snapshot of a snapshot is one of its own; a clone of it can be written.
	again, err := v.Clone(ctx, "snap", Copy{Name: "thawed"})
	if err != nil || again.Labels[SnapshotOf] != "" || v.ReadOnly("thawed") {
		t.Errorf("a clone of a snapshot: %+v, %v", again, err)
	}

	before := len(v.List())
	_, err = v.Clone(ctx, "orig", Copy{Name: "clone"})
	kind(t, "clone on one that is there", err, errdefs.Conflict)
	_, err = v.Clone(ctx, "nope", Copy{Name: "other"})
	kind(t, "clone of nothing", err, errdefs.NotFound)
	_, err = v.Clone(ctx, "orig", Copy{Name: "../x"})
	kind(t, "clone with a bad name", err, errdefs.Invalid)
	_, err = v.Import(ctx, "bad", nil, strings.NewReader(strings.Repeat("this is no archive", 100)))
	kind(t, "import of garbage", err, errdefs.DataLoss)
	_, err = v.Import(ctx, "bad", nil, bytes.NewReader(tar.Bytes()[:2500]))
	kind(t, "import of half an archive", err, errdefs.DataLoss)
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	if _, err = v.Clone(stopped, "orig", Copy{Name: "late"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	kind(t, "export of nothing", v.Export(ctx, "nope", io.Discard), errdefs.NotFound)
	if n := len(v.List()); n != before {
		t.Errorf("%d volumes, had %d", n, before)
	}
	entries, err := os.ReadDir(v.dir)
	if err != nil || len(entries) != before {
		t.Errorf("%d directories for %d volumes, %v", len(entries), before, err)
	}
	if _, _, err := v.Create(ctx, volume.CreateRequest{Name: "late"}); err != nil {
		t.Errorf("a name that failed is taken: %v", err)
	}
}

// TestRename: the files follow; a rename that was cut off is finished by the
// next start, and nothing of a volume is ever lost.
func TestRename(t *testing.T) {
	v := fresh(t, t.TempDir())
	ctx := t.Context()
	vol, _, err := v.Create(ctx, volume.CreateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	write(t, vol.Mountpoint+"/f", "1")
	if err := v.Use(vol.Name, "box"); err != nil {
		t.Fatal(err)
	}
	_, err = v.Rename(ctx, vol.Name, "kept")
	kind(t, "rename in use", err, errdefs.Conflict)
	v.Release("box")
	got, err := v.Rename(ctx, vol.Name, "kept")
	if err != nil || got.Name != "kept" {
		t.Fatal(got, err)
	}
	if _, anonymous := got.Labels[Anonymous]; anonymous {
		t.Error("still anonymous")
	}
	expect(t, got.Mountpoint+"/f", "1")
	_, err = v.Inspect(vol.Name)
	kind(t, "the old name", err, errdefs.NotFound)
	if _, _, err := v.Create(ctx, volume.CreateRequest{Name: vol.Name}); err != nil {
		t.Errorf("the old name is not free: %v", err)
	}
	_, err = v.Rename(ctx, "kept", vol.Name)
	kind(t, "rename to one that is there", err, errdefs.Conflict)
	_, err = v.Rename(ctx, "nope", "other")
	kind(t, "rename of nothing", err, errdefs.NotFound)

	// Cut off between the record and the directory.
	r := v.all["kept"]
	r.Name, r.From = "cut", "kept"
	var b store.Batch
	b.Delete(bucket, "kept")
	if err := put(&b, r); err != nil {
		t.Fatal(err)
	}
	if err := v.store.Commit(ctx, &b); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		again, err := New(v.dir, v.store, v.log)
		if err != nil {
			t.Fatal(err)
		}
		again.Close()
		expect(t, again.Path("cut")+"/f", "1")
		if len(again.List()) != 2 {
			t.Errorf("%d volumes", len(again.List()))
		}
	}
}

// TestSize: a volume with a size takes no more, and its clone neither; where
// that cannot be, it says so.
func TestSize(t *testing.T) {
	need.Root(t)
	plain := fresh(t, t.TempDir())
	_, _, err := plain.Create(t.Context(), volume.CreateRequest{Name: "small", DriverOpts: options("size=1m")})
	if errdefs.KindOf(err) != errdefs.Invalid || !strings.HasPrefix(err.Error(), "quota size requested but no quota support") || len(plain.List()) != 0 {
		t.Errorf("a size where there are no quotas: %v", err)
	}
	snapshottest.Projects(t, func(t *testing.T, root string) {
		sizes(t, root)
		snapshottest.Released(t, root)
	})
	disk := snapshottest.Disk{Type: "btrfs", Mkfs: []string{"mkfs.btrfs", "-q"}, From: "btrfs-progs", Size: 256 << 20}
	t.Run(disk.Type, func(t *testing.T) { sizes(t, disk.Mount(t)) })
	t.Run("zfs", func(t *testing.T) {
		name, dir := pool(t)
		sizes(t, dir)
		out, err := exec.Command("zfs", "projectspace", "-Hp", "-o", "name,quota", name).CombinedOutput()
		if err != nil || strings.Contains(string(out), "10485") {
			t.Errorf("limits that are left: %s, %v", out, err)
		}
	})
}

// pool makes a pool of ZFS in a file, and returns its name and where it is mounted.
func pool(t *testing.T) (name, dir string) {
	t.Helper()
	raw, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("zpool"); err != nil || !strings.Contains(string(raw), "\tzfs\n") {
		t.Skip("this machine has no ZFS")
	}
	name, dir = fmt.Sprint("ladevol", os.Getpid()), t.TempDir()
	file := filepath.Join("/dev/shm", name)
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 256<<20)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(file) })
	if out, err := exec.Command("zpool", "create", "-O", "compression=off", "-m", dir, name, file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("zpool", "destroy", name).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	return name, dir
}

// sizes fills a volume that has a limit, its clone, and a clone that was nearly
// full, and removes them.
func sizes(t *testing.T, root string) {
	v := fresh(t, root)
	vol, _, err := v.Create(t.Context(), volume.CreateRequest{Name: "small", DriverOpts: options("size=1m;o=uid=7")})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(vol.Mountpoint, "first"), string(make([]byte, 600<<10)))
	clone, err := v.Clone(t.Context(), "small", Copy{Name: "small2"})
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{vol.Mountpoint, clone.Mountpoint} {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil || st.Uid != 7 || st.Mode&0o777 != 0o755 {
			t.Errorf("%s: %+v, %v", dir, st, err)
		}
		var err error
		snapshottest.AsContainer(func() {
			for end := time.Now().Add(need.Patience(30 * time.Second)); err == nil && time.Now().Before(end); { // some file systems count late
				err = writeSynced(filepath.Join(dir, "f"), 700<<10)
			}
		})
		if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
			t.Errorf("%s: 1.3 megabytes in one: %v", dir, err)
		}
		if fi, err := os.Stat(filepath.Join(dir, "f")); err != nil || fi.Size() > 4<<20 {
			t.Errorf("%s: %+v, %v", dir, fi, err)
		}
	}
	// Nobody else notices.
	free, _, err := v.Create(t.Context(), volume.CreateRequest{Name: "free"})
	if err != nil {
		t.Fatal(err)
	}
	if err := writeSynced(filepath.Join(free.Mountpoint, "f"), 4<<20); err != nil {
		t.Errorf("without a limit: %v", err)
	}
	if _, err := v.Rename(t.Context(), "small", "other"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"other", "small2", "free"} {
		if err := v.Remove(t.Context(), name, false); err != nil {
			t.Error(err)
		}
	}
	v.Close()
	if left, err := os.ReadDir(v.dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// writeSynced writes a file and has it put on disk, where some file systems only
// then know how much it takes.
func writeSynced(name string, size int) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	b := make([]byte, size)
	for i := range b { // that nothing can leave out
		b[i] = byte(i*i>>7 + i)
	}
	_, err = f.Write(b)
	return errors.Join(err, unix.Syncfs(int(f.Fd())), f.Close())
}
