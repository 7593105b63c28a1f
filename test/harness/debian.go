package harness

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lade/internal/need"
)

// What a minimal Debian is made of. No release but this one is expected: the
// versions of its packages are what the tests know.
const (
	debianSuite  = "bookworm"
	debianMirror = "http://deb.debian.org/debian"
)

// Debian returns a tar file of a minimal Debian with further packages. The
// first test that asks has it made by debootstrap, which takes a minute and the
// network; it is kept in Cache.
func Debian(t testing.TB, packages ...string) string {
	t.Helper()
	slices.Sort(packages)
	sum := sha256.Sum256([]byte(strings.Join(packages, ",")))
	path := filepath.Join(Cache(t), fmt.Sprintf("debian-%s-%x.tar", debianSuite, sum[:8]))
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = makeDebian(t, path, packages)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// makeDebian makes the tar file, in one step for those who look at it.
func makeDebian(t testing.TB, path string, packages []string) (err error) {
	t.Helper()
	need.Root(t)
	debootstrap := need.Program(t, "debootstrap", "Debian's debootstrap")
	dir, err := os.MkdirTemp(filepath.Dir(path), "making-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	root := filepath.Join(dir, "root")
	for _, command := range [][]string{
		{debootstrap, "--variant=minbase", "--include=" + strings.Join(packages, ","), debianSuite, root, debianMirror},
		// What nobody reads in a test would be copied for each of them.
		{"rm", "-rf", root + "/var/cache/apt", root + "/var/lib/apt/lists", root + "/usr/share/doc", root + "/usr/share/man", root + "/usr/share/locale"},
		{"tar", "--numeric-owner", "-C", root, "-cf", filepath.Join(dir, "tar"), "."},
	} {
		if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, out)
		}
	}
	return os.Rename(filepath.Join(dir, "tar"), path)
}

// ImportFile gives the engine an image of a tar file.
func (e *Engine) ImportFile(path, image string) {
	e.t.Helper()
	f, err := os.Open(path)
	if err != nil {
		e.t.Fatal(err)
	}
	defer f.Close()
	cmd := e.Command("lade", "import", "-", image)
	cmd.Stdin = f
	if out, err := cmd.CombinedOutput(); err != nil {
		e.t.Fatalf("lade import: %v\n%s\n%s", err, out, e.Log())
	}
}
