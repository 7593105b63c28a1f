package harness

import (
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
