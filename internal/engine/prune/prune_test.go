package prune

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"lade/internal/errdefs"
	"lade/internal/filters"
)

func TestUntil(t *testing.T) {
	day := time.Date(2026, 3, 4, 0, 0, 0, 0, time.Local)
	for value, want := range map[string]time.Time{
		"2026-03-04": day, "2026-03-04T05:06": day.Add(5*time.Hour + 6*time.Minute), strconv.FormatInt(day.Unix(), 10): day,
		"2026-03-04T05:06:07Z": time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
	} {
		if got, err := Until(filters.Args{"until": {value}}); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", value, got, err)
		}
	}
	if got, err := Until(filters.Args{"until": {"24h"}}); err != nil || time.Since(got) < 24*time.Hour || time.Since(got) > 25*time.Hour {
		t.Errorf("24h: %v, %v", got, err)
	}
	if _, err := Until(filters.Args{"dangling": {"true"}}, "dangling"); err != nil {
		t.Error(err)
	}
	if got, err := Until(nil); err != nil || !got.IsZero() {
		t.Errorf("none: %v, %v", got, err)
	}
	for _, bad := range []filters.Args{{"until": {"soon"}}, {"until": {"1h", "2h"}}, {"color": {"red"}}, {"dangling": {"true"}}, {"all": {"1"}}} {
		if _, err := Until(bad); errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestMatch(t *testing.T) {
	now := time.Now()
	labels := map[string]string{"keep": "yes"}
	for _, tc := range []struct {
		f     filters.Args
		until time.Time
		want  bool
	}{
		{nil, time.Time{}, true},
		{nil, now.Add(time.Hour), true},
		{nil, now.Add(-time.Hour), false},
		{filters.Args{"label": {"keep"}}, time.Time{}, true},
		{filters.Args{"label": {"keep=no"}}, time.Time{}, false},
		{filters.Args{"label!": {"keep"}}, time.Time{}, false},
		{filters.Args{"label!": {"keep=no"}}, time.Time{}, true},
	} {
		if got := Match(tc.f, tc.until, now, labels); got != tc.want {
			t.Errorf("%v until %v: %v", tc.f, tc.until, got)
		}
	}
}

// TestTreeSize counts a file of two names once.
func TestTreeSize(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	f := filepath.Join(dir, "d", "f")
	if err := os.WriteFile(f, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(f, filepath.Join(dir, "g")); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Sync(); err != nil { // blocks are counted when they are written
		t.Fatal(err)
	}
	if n, err := treeSize(dir); err != nil || n < 1<<20 || n >= 2<<20 {
		t.Errorf("size of a tree: %d, %v", n, err)
	}
	if n, err := treeSize(filepath.Join(dir, "gone")); err != nil || n != 0 {
		t.Errorf("a directory that is gone: %d, %v", n, err)
	}
}
