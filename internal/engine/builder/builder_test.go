package builder

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"lade/internal/errdefs"
	"lade/internal/image/imagetest"
	"lade/internal/linux/cgroup"
	"lade/internal/need"
)

// TestMissing: without lade-build nothing is started or made, and the error says
// which file is missing.
func TestMissing(t *testing.T) {
	need.Root(t)
	cgroups, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	defer cgroups.Close()
	dir := t.TempDir()
	b := New(Config{
		Programs: Programs{Build: filepath.Join(dir, "lade-build")}, Root: filepath.Join(dir, "cache"), Run: filepath.Join(dir, "run"),
		Images: imagetest.New(t), Cgroups: cgroups, Group: "/lade-test-builder/build-x", Logger: slog.New(slog.DiscardHandler),
	})
	if err := b.Recover(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := b.Dial(t.Context()); errdefs.KindOf(err) != errdefs.Unavailable || !strings.Contains(err.Error(), filepath.Join(dir, "lade-build")) {
		t.Errorf("dial: %v", err)
	}
	if all, err := b.Usage(t.Context()); err != nil || len(all) != 0 || b.Kept() {
		t.Errorf("usage: %v, %v, kept: %v", all, err, b.Kept())
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if _, err := b.Dial(context.Background()); errdefs.KindOf(err) != errdefs.Unavailable {
		t.Errorf("after Close: %v", err)
	}
}
