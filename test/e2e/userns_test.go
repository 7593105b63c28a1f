package e2e

import (
	"path/filepath"
	"testing"

	"lade/internal/need"
)

// TestUsernsRemap runs the scripts again with every container in a user
// namespace: what runs in one is no different from what runs in none. Scripts in
// testdata/userns are about the difference.
func TestUsernsRemap(t *testing.T) {
	need.Root(t)
	for _, cli := range []string{"lade", "docker"} {
		t.Run(cli, func(t *testing.T) { scripts(t, "testdata", cli, "userns", "--userns-remap=default") })
	}
}

// TestUserns runs testdata/userns/*.txt with an engine whose containers have the
// host's ids unless they say otherwise.
func TestUserns(t *testing.T) {
	need.Root(t)
	for _, cli := range []string{"lade", "docker"} {
		t.Run(cli, func(t *testing.T) { scripts(t, filepath.Join("testdata", "userns"), cli, "own") })
	}
}
