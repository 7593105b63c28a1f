package conformance

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// source is a published module, of which the tests are built with the
// dependencies that its authors test it with.
type source struct {
	module, version string
	sum             string // as go.sum has it
	mod             string // what it calls its go.mod, when it is no module to Go
	tags            string
	programs        map[string]string // further programs, by where below bin they are wanted: a package
}

// build returns a directory with the module's files, in which bin has the
// programs of the tests. It is kept: the first run waits some minutes for it.
func (s source) build(t *testing.T, packages []string) string {
	t.Helper()
	key := sha256.Sum256(fmt.Appendf(nil, "%q %q %s", s, packages, runtime.Version()))
	return harness.Kept(t, fmt.Sprintf("suite-%x", key[:8]), func(dir string) error {
		s.copy(t, dir)
		for _, p := range packages {
			s.run(t, dir, "test", "-c", "-tags", s.tags, "-ldflags=-s -w", "-o", program(dir, p), "./"+p)
		}
		for name, p := range s.programs {
			s.run(t, dir, "build", "-ldflags=-s -w", "-o", filepath.Join(dir, "bin", name), p)
		}
		return nil
	})
}

// program is that of the tests of a package.
func program(dir, packageDir string) string {
	return filepath.Join(dir, "bin", strings.ReplaceAll(packageDir, "/", "-")+".test")
}

// copy puts the files of the module into a directory. They may be written to, as
// those in the module cache may not: some tests do.
func (s source) copy(t *testing.T, dir string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), need.Program(t, "go", "Go"), "mod", "download", "-json", s.module+"@"+s.version)
	cmd.Dir = os.TempDir() // outside of lade's module
	out, err := cmd.Output()
	var got struct{ Dir, Sum, Error string }
	if e := json.Unmarshal(out, &got); e != nil || err != nil || got.Sum != s.sum {
		t.Fatalf("%s@%s: %v %s, sum %q, wanted %q", s.module, s.version, errors.Join(err, e), got.Error, got.Sum, s.sum)
	}
	if err := os.CopyFS(dir, os.DirFS(got.Dir)); err != nil {
		t.Fatal(err)
	}
	if s.mod == "" {
		return
	}
	// A list of vendored modules without them stands in the way.
	err = errors.Join(os.RemoveAll(filepath.Join(dir, "vendor")),
		os.Rename(filepath.Join(dir, s.mod+".mod"), filepath.Join(dir, "go.mod")),
		os.Rename(filepath.Join(dir, s.mod+".sum"), filepath.Join(dir, "go.sum")))
	if err != nil {
		t.Fatal(err)
	}
}

// run runs go in the copy.
func (s source) run(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), need.Program(t, "go", "Go"), args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: go %s: %v\n%s", s.module, strings.Join(args, " "), err, out)
	}
}
