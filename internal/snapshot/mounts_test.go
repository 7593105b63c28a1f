package snapshot

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/need"
)

func TestMounts(t *testing.T) {
	need.Root(t)
	root := t.TempDir()
	at := filepath.Join(root, "s", "1", "1", "fs")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	var m Mounts
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	times := 0
	ensure := func() error {
		return m.Ensure(at, func() error {
			times++
			return unix.Mount("none", at, "tmpfs", 0, "size=64k")
		})
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := ensure(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if times != 1 {
		t.Errorf("mounted %d times", times)
	}
	f, err := os.Create(filepath.Join(at, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := m.Release(at); !errors.Is(err, unix.EBUSY) {
		t.Errorf("release what is open: %v", err)
	}
	if err := m.DropAll(root, "fs"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(at, "f")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("still mounted: %v", err)
	}
	for _, gone := range []string{at, filepath.Join(root, "none"), filepath.Join(at, "file", "x")} {
		if err := errors.Join(m.Drop(gone), m.Release(gone)); err != nil {
			t.Errorf("%s: %v", gone, err)
		}
	}
	if err := m.Ensure(filepath.Join(root, "none"), ensure); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
