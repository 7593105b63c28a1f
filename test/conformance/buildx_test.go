package conformance

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// buildx returns a directory of configuration in which docker finds the plugin that
// buildx/go.mod pins. It is kept: the first test that asks waits for it to be built.
func buildx(t *testing.T) string {
	t.Helper()
	pins, err := os.ReadFile("buildx/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(pins), "require github.com/docker/buildx ")
	version, _, _ := strings.Cut(rest, "\n")
	key := sha256.Sum256(append(pins, version...))
	return harness.Kept(t, fmt.Sprintf("buildx-%x", key[:8]), func(dir string) error {
		goBuild(t, "buildx", "-tags", "grpcnotrace",
			"-ldflags=-s -w -X github.com/docker/buildx/version.Version="+version, // Compose asks for it
			"-o", filepath.Join(dir, "cli-plugins", "docker-buildx"), "github.com/docker/buildx/cmd/buildx")
		return nil
	})
}

// TestBuildx: docker's client and its plugin for builds, which speak with the
// builder by /grpc and /session.
func TestBuildx(t *testing.T) {
	need.Root(t)
	docker := need.Program(t, "docker", "Debian's docker-cli")
	config := buildx(t)
	e := harness.Start(t)
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("Dockerfile", "FROM lade/hello AS base\nARG WHO\nRUN echo built by $WHO > /f\nFROM base\nRUN --mount=type=secret,id=s test \"$(cat /run/secrets/s)\" = hush\nRUN --mount=type=cache,target=/c <<EOT\necho heredoc >> /f\nEOT\nCMD [\"cat\",\"/f\"]\n")
	write("secret", "hush\n")
	write("Fails", "FROM lade/hello\nRUN exit 3\n")
	for _, x := range []struct {
		name string
		args []string
		want string // in what is printed, and for one that fails after a "!"
	}{
		{"build", []string{"build", "--progress", "plain", "-t", "x", "--build-arg", "WHO=buildx", "--secret", "id=s,src=" + dir + "/secret", dir}, "naming to docker.io/library/x:latest"},
		{"run", []string{"run", "--rm", "x"}, "built by buildx\nheredoc\n"},
		{"again", []string{"build", "--progress", "plain", "-t", "x", "--build-arg", "WHO=buildx", "--secret", "id=s,src=" + dir + "/secret", dir}, "CACHED"},
		{"quiet", []string{"build", "-q", "--target", "base", "--build-arg", "WHO=buildx", dir}, "sha256:"},
		{"failure", []string{"build", "-f", dir + "/Fails", dir}, "!did not complete successfully: exit code: 3"},
		{"files", []string{"build", "-o", dir + "/out", "--build-arg", "WHO=files", "--target", "base", dir}, ""},
		{"usage", []string{"buildx", "du"}, "Reclaimable:"},
		{"history", []string{"buildx", "history", "ls"}, "Completed"},
		{"attested", []string{"image", "inspect", "-f", "{{.Os}}", "x"}, "linux"},
		{"prune", []string{"buildx", "prune", "-af"}, "Total:"},
		{"after", []string{"run", "--rm", "x"}, "built by buildx\n"},
	} {
		cmd := exec.CommandContext(t.Context(), docker, x.args...)
		cmd.Env = append(e.Command("docker").Env, "DOCKER_CONFIG="+config, "BUILDX_CONFIG="+filepath.Join(dir, "buildx"))
		out, err := cmd.CombinedOutput()
		want, fails := strings.CutPrefix(x.want, "!")
		if (err != nil) != fails || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s", x.name, err, out)
		}
	}
	write("compose.yml", "services:\n  web:\n    build: {context: ., target: base, args: {WHO: compose}}\n    command: cat /f\n")
	compose := exec.CommandContext(t.Context(), filepath.Join(built(t), "cli-plugins", "docker-compose"), "-p", "built", "up", "--build")
	compose.Dir = dir
	compose.Env = append(e.Command("docker").Env, "DOCKER_CONFIG="+config, "BUILDX_CONFIG="+filepath.Join(dir, "buildx"))
	if out, err := compose.CombinedOutput(); err != nil || !strings.Contains(string(out), "built by compose") {
		t.Errorf("compose: %v\n%s", err, out)
	}
	e.Run("rm", "-f", "built-web-1")
	e.Run("network", "rm", "built_default")
	if got, err := os.ReadFile(filepath.Join(dir, "out", "f")); err != nil || string(got) != "built by files\n" {
		t.Errorf("files: %q, %v", got, err)
	}
}
