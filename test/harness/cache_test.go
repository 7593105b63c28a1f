package harness

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestKept: what is made is whole or not there, once, and nothing else stays.
func TestKept(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("LADE_TEST_CACHE", cache)
	failed := errors.New("no")
	if err := keep(filepath.Join(cache, "a"), func(path string) error {
		return errors.Join(os.WriteFile(path, []byte("half"), 0o644), failed)
	}); !errors.Is(err, failed) {
		t.Errorf("a build that fails: %v", err)
	}
	for range 2 {
		path := Kept(t, "a", func(path string) error {
			return errors.Join(os.WriteFile(path+".source", nil, 0o644), os.Mkdir(path, 0o755), os.WriteFile(filepath.Join(path, "b"), []byte("whole"), 0o644))
		})
		if b, err := os.ReadFile(filepath.Join(path, "b")); string(b) != "whole" {
			t.Errorf("kept %q, %v", b, err)
		}
	}
	// Somebody else was faster.
	if err := keep(filepath.Join(cache, "a"), func(path string) error {
		return errors.Join(os.Mkdir(path, 0o755), os.WriteFile(filepath.Join(path, "b"), []byte("late"), 0o644))
	}); err != nil {
		t.Errorf("the later one of two: %v", err)
	}
	if b, _ := os.ReadFile(filepath.Join(cache, "a", "b")); string(b) != "whole" {
		t.Errorf("the later one of two took the place: %q", b)
	}
	if all, err := os.ReadDir(cache); len(all) != 1 || err != nil {
		t.Errorf("the cache has %v, %v", all, err)
	}
}
