package harness

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// programs are all that a build consists of.
var programs = []string{"lade", "laded", "lade-supervisor", "lade-runtime", "lade-init", "lade-gate", "lade-build"}

// OtherBuild returns a directory with another build of those programs, or of all:
// what a package of the next day would bring. They are copies with another version
// in them; the programs that are not named are links to those under test.
func OtherBuild(t testing.TB, named ...string) string {
	t.Helper()
	bin, dir := Bin(t), t.TempDir()
	out, err := exec.CommandContext(t.Context(), filepath.Join(bin, "lade-supervisor"), "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	version := bytes.TrimSpace(bytes.TrimPrefix(out, []byte("lade-supervisor ")))
	if len(version) < 8 {
		t.Fatalf("version %q is too short to be told apart from other words: `make all` gives a longer one", version)
	}
	other := bytes.Clone(version)
	other[len(other)-1] ^= 1
	for _, name := range programs {
		from, to := filepath.Join(bin, name), filepath.Join(dir, name)
		if len(named) > 0 && !slices.Contains(named, name) {
			err = os.Symlink(from, to)
		} else {
			err = patch(from, to, version, other)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// patch copies a program with one text in place of another as long.
func patch(from, to string, was, becomes []byte) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, bytes.ReplaceAll(b, was, becomes), 0o755)
}
