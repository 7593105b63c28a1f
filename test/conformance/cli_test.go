package conformance

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"lade/internal/need"
)

// TestDockerCLI runs the scripts of test/e2e with the docker client that is on
// the PATH, and with the newest.
func TestDockerCLI(t *testing.T) {
	full(t)
	var all results
	for name, dir := range map[string]string{
		"docker CLI, installed": filepath.Dir(need.Program(t, "docker", "Debian's docker-cli")),
		"docker CLI, newest":    built(t),
	} {
		t.Run(name, func(t *testing.T) { all.add(name, clientVersion(t, dir), scripts(t, dir)) })
	}
	all.publish(t, page)
}

// clientVersion asks the docker of a directory for its version.
func clientVersion(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command(filepath.Join(dir, "docker"), "--version").Output()
	f := strings.Fields(string(out)) // Docker version 29.0.0, build …
	if err != nil || len(f) < 3 {
		t.Fatalf("docker --version: %q %v", out, err)
	}
	return strings.TrimSuffix(f[2], ",")
}

// scripts runs the scripts with the docker of a directory.
func scripts(t *testing.T, dir string) (got tally) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), need.Program(t, "go", "Go"), "test", "-count=1", "-v", "-timeout", "20m", "-run", "^TestScripts$/^docker$", "../e2e")
	cmd.Env = append(os.Environ(), "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`--- (PASS|FAIL): TestScripts/docker/(\S+)`).FindAllSubmatch(out, -1) {
		if bytes.Equal(m[1], []byte("PASS")) {
			got.pass++
			continue
		}
		got.fail++
		t.Errorf("%s", m[2])
	}
	if err != nil || got.pass == 0 {
		t.Errorf("%v\n%s", err, out)
	}
	return got
}
