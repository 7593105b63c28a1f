package volume

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/moby/api/types/volume"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/image/imagetest"
	"lade/internal/need"
	"lade/internal/snapshot/snapshottest"
)

// used returns how many bytes of a file system are taken, once all is on disk.
func used(t *testing.T, dir string) int64 {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := errors.Join(unix.Syncfs(int(f.Fd())), unix.Fstatfs(int(f.Fd()), &st)); err != nil {
		t.Fatal(err)
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

// TestShare: where the file system can, a clone and a snapshot take no room for
// what they share with the original, and what is written is each one's own.
func TestShare(t *testing.T) {
	for _, disk := range []snapshottest.Disk{
		{Type: "btrfs", Mkfs: []string{"mkfs.btrfs", "-q"}, From: "btrfs-progs", Size: 512 << 20},
		{Type: "xfs", Mkfs: []string{"mkfs.xfs", "-q", "-m", "reflink=1"}, From: "xfsprogs", Size: 512 << 20},
	} {
		t.Run(disk.Type, func(t *testing.T) {
			need.Root(t)
			v := fresh(t, disk.Mount(t))
			vol, _, err := v.Create(t.Context(), volume.CreateRequest{Name: "orig"})
			if err != nil {
				t.Fatal(err)
			}
			const size = 64 << 20
			write(t, filepath.Join(vol.Mountpoint, "f"), string(bytes.Repeat([]byte("0123456789abcdef"), size/16)))
			before := used(t, v.dir)
			clone, err := v.Clone(t.Context(), "orig", Copy{Name: "clone"})
			if err != nil {
				t.Fatal(err)
			}
			snap, err := v.Clone(t.Context(), "orig", Copy{Name: "snap", Snapshot: true})
			if err != nil {
				t.Fatal(err)
			}
			if more := used(t, v.dir) - before; more > size/4 {
				t.Errorf("two copies of %d bytes take %d", size, more)
			}
			f, err := os.OpenFile(filepath.Join(clone.Mountpoint, "f"), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString("mine"); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			for dir, want := range map[string]string{vol.Mountpoint: "0123456789", snap.Mountpoint: "0123456789", clone.Mountpoint: "mine456789"} {
				raw, err := os.ReadFile(filepath.Join(dir, "f"))
				if err != nil || len(raw) != size || string(raw[:10]) != want {
					t.Errorf("%s: %d bytes, %.10q, %v; want %q", dir, len(raw), raw, err, want)
				}
			}
		})
	}
}

// TestFillFails: what does not fit, and what leads out of the volume, leaves
// nothing behind, neither here nor there.
func TestFillFails(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	v := fresh(t, dir)
	vol, _, err := v.Create(t.Context(), volume.CreateRequest{Name: "orig"})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(vol.Mountpoint, "f"), string(make([]byte, 5<<20)))
	before := used(t, dir)
	_, err = v.Clone(t.Context(), "orig", Copy{Name: "two"})
	kind(t, "a clone that does not fit", err, errdefs.Exhausted)
	for what, c := range map[string]struct {
		file imagetest.File
		kind errdefs.Kind
	}{
		"more than there is": {imagetest.File{Name: "large", Body: string(make([]byte, 8<<20))}, errdefs.Exhausted},
		"a path outside":     {imagetest.File{Name: "../../escaped", Body: "x"}, errdefs.Invalid},
		"a link outside":     {imagetest.File{Name: "l", Type: '1', Link: "../../orig/_data/f"}, errdefs.Invalid},
	} {
		_, err := v.Import(t.Context(), "two", nil, bytes.NewReader(imagetest.Tar(t, c.file)))
		kind(t, what, err, c.kind)
	}
	if left, err := os.ReadDir(v.dir); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
	if after := used(t, dir); after != before {
		t.Errorf("%d bytes are taken, were %d", after, before)
	}
	expect(t, filepath.Join(vol.Mountpoint, "f"), string(make([]byte, 5<<20)))
}
