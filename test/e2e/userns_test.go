package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// TestUsernsRemap runs the scripts again with every container in a user
// namespace: what runs in one is no different from what runs in none. Scripts in
// testdata/userns are about the difference.
func TestUsernsRemap(t *testing.T) {
	need.Root(t)
	for _, cli := range []string{"lade", "docker"} {
		t.Run(cli, func(t *testing.T) {
			t.Parallel()
			scripts(t, "testdata", cli, "userns", "--userns-remap=default")
		})
	}
}

// TestUserns runs testdata/userns/*.txt with an engine whose containers have the
// host's ids unless they say otherwise.
func TestUserns(t *testing.T) {
	need.Root(t)
	for _, cli := range []string{"lade", "docker"} {
		t.Run(cli, func(t *testing.T) {
			t.Parallel()
			scripts(t, filepath.Join("testdata", "userns"), cli, "own")
		})
	}
	t.Run("lxc", func(t *testing.T) {
		need.Program(t, "lxc-start", "Debian's lxc")
		t.Parallel()
		scripts(t, filepath.Join("testdata", "userns"), "docker", "lxc", "--default-runtime", "lxc")
	})
}

// TestUsernsDefault gives the daemon a default, by daemon.json; it is told, can
// be left, and what a container has stays its own over the daemon's restart.
func TestUsernsDefault(t *testing.T) {
	need.Root(t)
	e := harness.Start(t, "--userns-remap=default")
	e.Run("run", "-d", "--name", "remapped", "lade/hello", "sleep", "1000")
	e.Run("run", "-d", "--name", "auto", "--userns=auto", "lade/hello", "sleep", "1000")
	if out := e.Run("info", "-f", "{{.SecurityOptions}}"); !strings.Contains(out, "name=userns") {
		t.Errorf("info: %s", out)
	}
	if out := e.Run("run", "--rm", "--userns=host", "lade/hello", "cat", "/proc/self/uid_map"); strings.Join(strings.Fields(out), " ") != "0 0 4294967295" {
		t.Errorf("the host's ids are %q", out)
	}
	ranges := func() string {
		return e.Run("inspect", "-f", `{{index .HostConfig.Annotations "lade.userns-range"}}`, "remapped", "auto")
	}
	before := ranges()
	lines := strings.Fields(before)
	if len(lines) != 4 || lines[0] == lines[2] || lines[0] != "0:1073676288:65536" {
		t.Errorf("ranges %q", before)
	}
	e.Stop()
	e.Launch()
	if after := ranges(); after != before {
		t.Errorf("after a restart %q, before %q", after, before)
	}
	e.Run("run", "-d", "--name", "third", "--userns=auto", "lade/hello", "sleep", "1000")
	if out := e.Run("exec", "third", "cat", "/proc/self/uid_map"); strings.Contains(out, strings.Split(lines[2], ":")[1]) {
		t.Errorf("another container's ids: %s", out)
	}
	if out := e.Run("exec", "auto", "id", "-u"); strings.TrimSpace(out) != "0" {
		t.Errorf("exec after a restart: %q", out)
	}
	e.Run("rm", "-f", "remapped", "auto", "third")
}
