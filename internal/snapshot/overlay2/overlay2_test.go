package overlay2

import (
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/need"
	"lade/internal/snapshot"
	"lade/internal/snapshot/snapshottest"
)

func open(root string) (snapshot.Snapshotter, error) { return New(root, slog.New(slog.DiscardHandler)) }

func TestConformance(t *testing.T) {
	need.Root(t)
	snapshottest.Run(t, open)
}

// TestUserns runs overlay2 without root, in a user namespace of its own.
func TestUserns(t *testing.T) {
	if !need.Userns(t) {
		return
	}
	d, err := New(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Prepare(t.Context(), "box", ""); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(t.Context(), "key", "box"); err != nil {
		t.Fatal(err)
	}
	if r, err := d.Prepare(t.Context(), "box", "key"); err != nil || r.Upper == "" {
		t.Fatal(r, err)
	}
}

// TestOverlayOnOverlay checks that the driver says why it cannot be used.
func TestOverlayOnOverlay(t *testing.T) {
	need.Root(t)
	tmp := t.TempDir()
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(tmp, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	merged := filepath.Join(tmp, "merged")
	o := "volatile,lowerdir=" + tmp + "/lower,upperdir=" + tmp + "/upper,workdir=" + tmp + "/work"
	if err := unix.Mount("overlay", merged, "overlay", 0, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(merged, unix.MNT_DETACH) })
	_, err := New(filepath.Join(merged, "root"), slog.New(slog.DiscardHandler))
	if errdefs.KindOf(err) != errdefs.Unavailable || !strings.Contains(err.Error(), "on an overlay") {
		t.Errorf("%v", err)
	}
}

// BenchmarkPrepareRemove measures what a container's start and removal cost.
func BenchmarkPrepareRemove(b *testing.B) {
	need.Root(b)
	d, err := New(b.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	parent := ""
	for _, k := range []string{"a", "b", "c", "d", "e"} {
		if _, err := d.Prepare(b.Context(), "active", parent); err != nil {
			b.Fatal(err)
		}
		if err := d.Commit(b.Context(), k, "active"); err != nil {
			b.Fatal(err)
		}
		parent = k
	}
	for b.Loop() {
		if _, err := d.Prepare(b.Context(), "box", parent); err != nil {
			b.Fatal(err)
		}
		if err := d.Remove(b.Context(), "box"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPrepare measures Prepare alone.
func BenchmarkPrepare(b *testing.B) {
	need.Root(b)
	d, err := New(b.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	for i := 0; b.Loop(); i++ {
		if _, err := d.Prepare(b.Context(), "box"+strconv.Itoa(i), ""); err != nil {
			b.Fatal(err)
		}
	}
}
