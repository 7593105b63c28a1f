package volume

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/volume"

	"lade/internal/errdefs"
	"lade/internal/store"
)

func fresh(t *testing.T, dir string) *Volumes {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	s, err := store.Open(filepath.Join(dir, "store"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	v, err := New(filepath.Join(dir, "volumes"), s, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

func TestLife(t *testing.T) {
	v := fresh(t, t.TempDir())
	vol, created, err := v.Create(t.Context(), volume.CreateRequest{Name: "v1", Labels: map[string]string{"a": "b"}})
	if err != nil || !created || vol.Labels["a"] != "b" {
		t.Fatalf("Create = %v, %v, %v", vol, created, err)
	}
	if _, created, err := v.Create(t.Context(), volume.CreateRequest{Name: "v1"}); err != nil || created {
		t.Errorf("second Create = %v, %v", created, err)
	}
	if err := v.Use("v1", "c"); err != nil {
		t.Fatal(err)
	}
	if err := v.Remove(t.Context(), "v1", true); errdefs.KindOf(err) != errdefs.Conflict || err.Error() != "remove v1: volume is in use - [c]" {
		t.Errorf("Remove in use: %v", err)
	}
	v.Release("c")
	if err := v.Remove(t.Context(), "v1", false); err != nil {
		t.Fatal(err)
	}
	v.Close()
	if _, err := os.Stat(filepath.Dir(vol.Mountpoint)); !os.IsNotExist(err) {
		t.Errorf("data is still there: %v", err)
	}
	if _, err := v.Inspect("v1"); errdefs.KindOf(err) != errdefs.NotFound || err.Error() != "get v1: no such volume" {
		t.Errorf("Inspect: %v", err)
	}
}

func TestErrors(t *testing.T) {
	v := fresh(t, t.TempDir())
	for want, r := range map[errdefs.Kind]volume.CreateRequest{
		errdefs.NotFound: {Name: "v3", Driver: "nope"},
		errdefs.Invalid:  {Name: "bad/name"},
	} {
		if _, _, err := v.Create(t.Context(), r); errdefs.KindOf(err) != want {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if _, _, err := v.Create(t.Context(), volume.CreateRequest{Driver: "nope"}); err == nil || strings.HasPrefix(err.Error(), "create :") {
		t.Errorf("a volume without a name: %v", err)
	}
	if len(v.List()) != 0 {
		t.Error("a refused volume was created")
	}
	if err := v.Remove(t.Context(), "nope", true); err != nil {
		t.Errorf("forced Remove of nothing: %v", err)
	}
}

// TestRecovery: a volume survives, a directory without a record does not.
func TestRecovery(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	s, err := store.Open(filepath.Join(dir, "store"), log)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	v, err := New(filepath.Join(dir, "volumes"), s, log)
	if err != nil {
		t.Fatal(err)
	}
	vol, _, err := v.Create(t.Context(), volume.CreateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	orphan := filepath.Join(dir, "volumes", "orphan", "_data")
	if err := os.MkdirAll(orphan, 0o755); err != nil {
		t.Fatal(err)
	}
	again, err := New(filepath.Join(dir, "volumes"), s, log)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	if got, err := again.Inspect(vol.Name); err != nil || got.Labels[Anonymous] != "" {
		t.Errorf("Inspect = %v, %v", got, err)
	}
	if _, err := os.Stat(orphan); !os.IsNotExist(err) {
		t.Errorf("orphan: %v", err)
	}
}
