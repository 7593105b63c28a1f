package filecopy

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/need"
)

// data is n bytes that do not repeat soon.
func data(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*i>>7 + i)
	}
	return b
}

func file(t *testing.T, path string, b []byte) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	return f
}

// blocks returns the disk space of a file in bytes.
func blocks(t *testing.T, f *os.File) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// TestContent: every way of copying gives the same bytes, and leaves holes.
func TestContent(t *testing.T) {
	want := make([]byte, 8<<20)
	copy(want[1<<20:], data(3<<20+17))
	copy(want[6<<20:], data(100))
	for name, c := range map[string]*Copier{
		"best":       {},
		"range":      {noClone: true},
		"sendfile":   {noClone: true, noRange: true},
		"read write": {noClone: true, noRange: true, noSend: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			src := file(t, filepath.Join(dir, "src"), nil)
			for at, n := range map[int64]int64{1 << 20: 3<<20 + 17, 6 << 20: 100} {
				if _, err := src.WriteAt(want[at:at+n], at); err != nil {
					t.Fatal(err)
				}
			}
			if err := src.Truncate(int64(len(want))); err != nil {
				t.Fatal(err)
			}
			dst := file(t, filepath.Join(dir, "dst"), nil)
			if err := c.Content(t.Context(), int(dst.Fd()), int(src.Fd()), int64(len(want))); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(dst.Name()); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes that differ, %v", len(got), err)
			}
			if got := blocks(t, dst); got > 5<<20 {
				t.Errorf("the copy takes %d bytes of disk: its holes are filled", got)
			}
		})
	}
}

// TestSizes: what is said counts, whatever the file is by then.
func TestSizes(t *testing.T) {
	dir, whole := t.TempDir(), data(300000)
	src := file(t, filepath.Join(dir, "src"), whole)
	for _, size := range []int{0, 1, 299999, 300000, 400000} {
		dst := file(t, filepath.Join(dir, "dst"), nil)
		var c Copier
		if err := c.Content(t.Context(), int(dst.Fd()), int(src.Fd()), int64(size)); err != nil {
			t.Errorf("%d: %v", size, err)
		}
		want := make([]byte, size)
		copy(want, whole)
		if got, err := os.ReadFile(dst.Name()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d: %d bytes that differ, %v", size, len(got), err)
		}
		if err := os.Remove(dst.Name()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFileSystems copies between file systems that copy_file_range(2) does not
// cross, and out of one whose files have no size.
func TestFileSystems(t *testing.T) {
	need.Root(t)
	ram := t.TempDir()
	if err := unix.Mount("none", ram, "tmpfs", 0, "size=16m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(ram, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	want := data(5 << 20)
	disk := file(t, filepath.Join(t.TempDir(), "disk"), want)
	there := file(t, filepath.Join(ram, "there"), nil)
	back := file(t, filepath.Join(filepath.Dir(disk.Name()), "back"), nil)
	var c Copier
	for _, step := range []struct{ to, from *os.File }{{there, disk}, {back, there}} {
		if err := c.Content(t.Context(), int(step.to.Fd()), int(step.from.Fd()), int64(len(want))); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(back.Name()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes that differ, %v", len(got), err)
	}
	large := file(t, filepath.Join(filepath.Dir(disk.Name()), "large"), data(20<<20))
	over := file(t, filepath.Join(ram, "over"), nil)
	if err := c.Content(t.Context(), int(over.Fd()), int(large.Fd()), 20<<20); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("20 MiB into 16: %v", err)
	}
}

// TestEnds: a context and a check that fail end a copy between two pieces.
func TestEnds(t *testing.T) {
	dir := t.TempDir()
	src := file(t, filepath.Join(dir, "src"), data(2*piece))
	gone := errors.New("gone")
	asked := 0
	c := Copier{noClone: true, Check: func() error {
		if asked++; asked > 1 {
			return gone
		}
		return nil
	}}
	dst := file(t, filepath.Join(dir, "dst"), nil)
	if err := c.Content(t.Context(), int(dst.Fd()), int(src.Fd()), 2*piece); !errors.Is(err, gone) || asked != 2 {
		t.Errorf("%v after %d questions", err, asked)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	c.Check = nil
	if err := c.Content(ctx, int(dst.Fd()), int(src.Fd()), 2*piece); !errors.Is(err, gone) {
		t.Errorf("with a context that has ended: %v", err)
	}
}
