package harness

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
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
	return Kept(t, fmt.Sprintf("debian-%s-%x.tar", debianSuite, sum[:8]), func(path string) error {
		return makeDebian(t, path, packages)
	})
}

// makeDebian makes the tar file, and beside it the tree that is in it.
func makeDebian(t testing.TB, path string, packages []string) error {
	t.Helper()
	need.Root(t)
	debootstrap := need.Program(t, "debootstrap", "Debian's debootstrap")
	root := path + ".root"
	for _, command := range [][]string{
		{debootstrap, "--variant=minbase", "--include=" + strings.Join(packages, ","), debianSuite, root, debianMirror},
		// What nobody reads in a test would be copied for each of them.
		{"rm", "-rf", root + "/var/cache/apt", root + "/var/lib/apt/lists", root + "/usr/share/doc", root + "/usr/share/man", root + "/usr/share/locale"},
		{"tar", "--numeric-owner", "-C", root, "-cf", path, "."},
	} {
		if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, out)
		}
	}
	return nil
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
