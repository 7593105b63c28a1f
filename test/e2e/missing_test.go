package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// TestMissingParts names things that are not there beside an image that is. A
// client that is told "not found" says so of the image, and pulls it.
func TestMissingParts(t *testing.T) {
	need.Root(t)
	docker := need.Program(t, "docker", "Debian's docker-cli")
	e := harness.Start(t)
	e.Run("run", "--rm", "lade/hello", "true")
	for _, client := range []string{docker, filepath.Join(e.Bin, "lade")} {
		for _, c := range []struct{ option, says string }{
			{"--volumes-from=nope", "No such container: nope"},
			{"--link=nope:x", "could not get container for nope: No such container: nope"},
			{"--network=container:nope", "joining network namespace of container: No such container: nope"},
			{"--annotation=lade.secrets=nope", "secret nope not found"},
			{"--annotation=lade.configs=nope", "config nope not found"},
			{"--mount=type=image,source=nope,target=/x", "No such image: nope:latest"},
			{"--mount=type=volume,source=nope,target=/x,volume-driver=nope", `create nope: error looking up volume plugin nope: plugin "nope" not found`},
			{"--runtime=nope", "unknown or invalid runtime name: nope"},
			{"--log-driver=nope", "logger: no log driver named 'nope' is registered"},
			{"--isolation=hyperv", "invalid isolation 'hyperv' on linux"},
		} {
			cmd := e.Command(client, "run", "--rm", c.option, "lade/hello", "true")
			out, err := cmd.CombinedOutput()
			first, _, _ := strings.Cut(string(out), "\n")
			if want := filepath.Base(client) + ": Error response from daemon: " + c.says; first != want || cmd.ProcessState.ExitCode() != 125 {
				t.Errorf("%s %s: %v: %s\nwant %s", client, c.option, err, out, want)
			}
		}
	}
	if out := e.Run("ps", "-aq"); out != "" {
		t.Errorf("containers are left: %s", out)
	}
	if out := e.Run("volume", "ls", "-q"); out != "" {
		t.Errorf("volumes are left: %s", out)
	}
}
