package conformance

import (
	"crypto/sha256"
	"encoding/json"
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

// built returns a directory of the newest docker client and of Compose, its
// plugin, built from the modules that clients/go.mod pins. They are kept: the
// first test that asks waits two minutes for them.
func built(t *testing.T) string {
	t.Helper()
	pins, err := os.ReadFile("clients/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	key := sha256.Sum256(append(pins, runtime.Version()...))
	return harness.Kept(t, fmt.Sprintf("clients-%x", key[:8]), func(dir string) error {
		cli, compose := pinned(t, "github.com/docker/cli"), pinned(t, "github.com/docker/compose/v5")
		for _, args := range [][]string{
			// As a module without go.mod it would be compiled as the Go of 2016.
			{
				"-gcflags=github.com/docker/cli/...=-lang=go1.26", "-ldflags=-s -w -X github.com/docker/cli/cli/version.Version=" + cli,
				"-o", filepath.Join(dir, "docker"), "github.com/docker/cli/cmd/docker",
			},
			{
				"-ldflags=-s -w -X github.com/docker/compose/v5/internal.Version=v" + compose,
				"-o", filepath.Join(dir, "cli-plugins", "docker-compose"), "github.com/docker/compose/v5/cmd",
			},
		} {
			goBuild(t, "clients", args...)
		}
		return nil
	})
}

// goBuild builds a program in the module of a directory.
func goBuild(t *testing.T, module string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), need.Program(t, "go", "Go"), append([]string{"build", "-trimpath"}, args...)...)
	cmd.Dir, cmd.Env = module, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// nodeModules returns a directory of the packages that clients/node pins. They
// are kept.
func nodeModules(t *testing.T) string {
	t.Helper()
	var files []byte
	for _, name := range []string{"package.json", "package-lock.json"} {
		b, err := os.ReadFile(filepath.Join("clients", "node", name))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, b...)
	}
	key := sha256.Sum256(files)
	return filepath.Join(harness.Kept(t, fmt.Sprintf("node-%x", key[:8]), func(dir string) error {
		if err := os.CopyFS(dir, os.DirFS(filepath.Join("clients", "node"))); err != nil {
			return err
		}
		// What would be compiled only makes ssh:// faster.
		return quiet(t, "npm", "ci", "--prefix", dir, "--ignore-scripts", "--no-audit", "--no-fund")
	}), "node_modules")
}

// nodeVersion is that of dockerode.
func nodeVersion(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(nodeModules(t), "dockerode", "package.json"))
	if err != nil {
		t.Fatal(err)
	}
	var p struct{ Version string }
	if err := json.Unmarshal(b, &p); err != nil {
		t.Fatal(err)
	}
	return p.Version
}

// pins is pinned for a table.
func pins(module string) func(*testing.T) string {
	return func(t *testing.T) string { return pinned(t, module) }
}

// pinned returns the version of a module in clients/go.mod, without the v.
func pinned(t *testing.T, module string) string {
	t.Helper()
	pins, err := os.ReadFile("clients/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(pins)) {
		if f := strings.Fields(strings.TrimPrefix(line, "require ")); len(f) > 1 && f[0] == module {
			return strings.TrimSuffix(strings.TrimPrefix(f[1], "v"), "+incompatible")
		}
	}
	t.Fatalf("clients/go.mod has no %s", module)
	return ""
}
