package harness

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// Cache returns the directory of what tests keep because it takes long to make:
// lade-test in the user's cache directory, or $LADE_TEST_CACHE.
func Cache(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("LADE_TEST_CACHE")
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(user, "lade-test")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Kept returns the path of what Cache has by a name. If there is nothing, build makes
// it first, a file or a directory, at the path that it is given: in a directory of its
// own, which goes with all else that it leaves there. Nobody sees it half made; of two
// that make it at a time one is kept.
func Kept(t testing.TB, name string, build func(path string) error) string {
	t.Helper()
	kept := filepath.Join(Cache(t), name)
	_, err := os.Stat(kept)
	if errors.Is(err, fs.ErrNotExist) {
		err = keep(kept, build)
	}
	if err != nil {
		t.Fatalf("make %s: %v", name, err)
	}
	return kept
}

func keep(kept string, build func(path string) error) (err error) {
	dir, err := os.MkdirTemp(filepath.Dir(kept), "making-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	made := filepath.Join(dir, "made")
	if err := build(made); err != nil {
		return err
	}
	if err := os.Rename(made, kept); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("keep what was made: %w", err)
	}
	return nil
}
