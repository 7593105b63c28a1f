package rootfs

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/need"
)

// TestOpenBelow: a part of a volume is in the volume, whatever links whoever
// writes to it has made there.
func TestOpenBelow(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	volume := filepath.Join(dir, "volume")
	if err := os.MkdirAll(filepath.Join(volume, "part"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"secret": "of the host", "volume/file": "of the volume", "volume/part/file": "of its part"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"inside": "part", "outside": "..", "far": "/etc", "process": "/proc/self/root"} {
		if err := os.Symlink(to, filepath.Join(volume, name)); err != nil {
			t.Fatal(err)
		}
	}
	for sub, want := range map[string]string{"": "of the volume", "part": "of its part", "inside": "of its part"} {
		tree, err := OpenBelow(volume, sub)
		if err != nil {
			t.Errorf("%q: %v", sub, err)
			continue
		}
		if got := readAt(t, tree, "file"); got != want {
			t.Errorf("%q shows a file %q, want %q", sub, got, want)
		}
		unix.Close(tree)
	}
	for _, sub := range []string{"outside", "far", "process", "..", "part/../..", "outside/secret", "missing", "file/below"} {
		if tree, err := OpenBelow(volume, sub); errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%q is opened (%d) or refused as %v, want Invalid", sub, tree, err)
		}
	}
}

func readAt(t *testing.T, dir int, name string) string {
	t.Helper()
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	b := make([]byte, 100)
	n, err := f.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}
