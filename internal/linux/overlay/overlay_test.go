package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/linux/sys"
	"lade/internal/need"
)

func mkdir(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMount(t *testing.T) {
	if !need.Userns(t) {
		return
	}
	have := sys.Probe()
	for _, f := range []sys.Features{have, {}} {
		t.Run(fmt.Sprintf("append=%v", f.LowerdirAppend), func(t *testing.T) {
			// The temporary directory may be on a file system that cannot be an
			// upper layer; memory always can.
			base := t.TempDir()
			if err := unix.Mount("tmpfs", base, "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(base, unix.MNT_DETACH); err != nil {
					t.Error(err)
				}
			})
			// One layer's path is too long for an option, another has its separators.
			long := filepath.Join(base, strings.Repeat("l", 200), strings.Repeat("m", 200))
			lower := []string{mkdir(t, long), mkdir(t, base+"/a:b,c\\d")}
			for i := range 30 {
				lower = append(lower, mkdir(t, fmt.Sprintf("%s/%d", base, i)))
			}
			for i, d := range lower {
				if err := os.WriteFile(fmt.Sprintf("%s/f%d", d, i), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(lower[0]+"/f1", []byte("top"), 0o644); err != nil {
				t.Fatal(err)
			}
			o := Options{Lower: lower, Upper: mkdir(t, base+"/upper"), Work: mkdir(t, base+"/work"), Volatile: true}
			for range 2 { // the second time over the mark of the first
				fd, err := Mount(o, f)
				if err != nil {
					t.Fatal(err)
				}
				top := sys.FDPath(fd)
				if b, err := os.ReadFile(top + "/f1"); string(b) != "top" || err != nil {
					t.Errorf("f1 = %q, %v", b, err)
				}
				for i := range lower {
					if _, err := os.Stat(fmt.Sprintf("%s/f%d", top, i)); err != nil {
						t.Error(err)
					}
				}
				if err := os.WriteFile(top+"/new", nil, 0o644); err != nil {
					t.Error(err)
				}
				unix.Close(fd)
				if _, err := os.Stat(o.Upper + "/new"); err != nil {
					t.Error(err)
				}
			}
			if _, err := Mount(Options{Lower: []string{base + "/missing"}}, f); !errors.Is(err, unix.ENOENT) {
				t.Errorf("missing layer: %v", err)
			}
			if e, err := filepath.Glob(base + "/.mount-*"); len(e) != 0 || err != nil {
				t.Errorf("left behind: %v", e)
			}
		})
	}
}
