package e2e

import (
	"strings"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// TestSpoof: a container without NET_RAW sends with no address but its own; with it,
// as Docker has it, it can make packets of its own.
func TestSpoof(t *testing.T) {
	need.Root(t)
	docker := need.Program(t, "docker", "Docker's client")
	e := harness.StartIn(t, ownHost(t))
	img := e.Import()
	run := func(args ...string) (string, error) {
		out, err := e.Command(docker, args...).CombinedOutput()
		return string(out), err
	}
	for name, flags := range map[string][]string{"raw": nil, "plain": {"--cap-drop", "NET_RAW"}} {
		e.Run(append(append([]string{"run", "-d", "--name", name}, flags...), img, "sleep", "1000")...)
	}
	router := e.Run("inspect", "-f", "{{.NetworkSettings.Networks.bridge.Gateway}}", "plain")
	other := e.Run("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "raw")
	if out, err := run("exec", "raw", "arping", "-c", "1", "-w", "30", "-I", "eth0", router); err != nil {
		t.Errorf("with NET_RAW: %v: %s", err, out)
	}
	for _, tc := range []struct {
		what, want string
		command    []string
	}{
		{"a frame of its own", "Operation not permitted", []string{"arping", "-c", "1", "-w", "5", "-I", "eth0", "-s", other, router}},
		{"the address of another container", "Cannot assign requested address", []string{"httpd", "-f", "-p", other + ":80"}},
		{"a further address", "Operation not permitted", []string{"ip", "address", "add", other + "/32", "dev", "eth0"}},
		{"another hardware address", "Operation not permitted", []string{"ip", "link", "set", "eth0", "address", "02:00:00:00:00:01"}},
	} {
		if out, err := run(append([]string{"exec", "plain"}, tc.command...)...); err == nil || !strings.Contains(out, tc.want) {
			t.Errorf("%s: %v: %s", tc.what, err, out)
		}
	}
}
