package e2e

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/system"

	"lade/internal/need"
	"lade/test/harness"
)

// info asks through the unmodified docker client.
func info(t *testing.T, e *harness.Engine) (i system.Info) {
	t.Helper()
	out, err := e.Command("docker", "info", "--format", "{{json .}}").Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &i); err != nil {
		t.Fatal(err)
	}
	return i
}

// TestInfo checks that info says how the daemon was started and what goes on.
func TestInfo(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "docker-cli")
	e := harness.Start(t, "--http-proxy", "http://me:secret@proxy.invalid:3128", "--no-proxy", "*",
		"--insecure-registry", "reg.invalid:5000", "--label", "tier=test")
	i := info(t, e)
	if !i.Debug { // the harness starts it so
		t.Error("the daemon was started with --debug")
	}
	if i.HTTPProxy != "http://xxxxx:xxxxx@proxy.invalid:3128" || i.NoProxy != "*" {
		t.Errorf("proxies: %q, %q", i.HTTPProxy, i.NoProxy)
	}
	if x := i.RegistryConfig.IndexConfigs["reg.invalid:5000"]; x == nil || x.Secure || i.RegistryConfig.Mirrors == nil {
		t.Errorf("registries: %+v", i.RegistryConfig)
	}
	if len(i.Labels) != 1 || i.Labels[0] != "tier=test" || i.LoggingDriver != "json-file" || i.NFd <= 0 || i.NGoroutines <= 0 || i.NEventsListener != 0 {
		t.Errorf("info: %+v", i)
	}
	if kernel, err := exec.Command("uname", "-r").Output(); err != nil || strings.TrimSpace(string(kernel)) != i.KernelVersion {
		t.Errorf("kernel %q, %q, %v", i.KernelVersion, kernel, err)
	}

	e.Run("run", "-d", "--name", "one", "lade/hello", "sleep", "1000")
	e.Run("run", "-d", "--name", "two", "lade/hello", "sleep", "1000")
	e.Run("create", "--name", "three", "lade/hello")
	e.Run("pause", "two")
	if i = info(t, e); i.Containers != 3 || i.ContainersRunning != 1 || i.ContainersPaused != 1 || i.ContainersStopped != 1 || i.Images != 1 {
		t.Errorf("%d containers: %d running, %d paused, %d stopped; %d images", i.Containers, i.ContainersRunning, i.ContainersPaused, i.ContainersStopped, i.Images)
	}
	listener := e.Command("docker", "events")
	if err := listener.Start(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1, 0} {
		end := time.Now().Add(need.Patience(30 * time.Second))
		for i = info(t, e); i.NEventsListener != want; i = info(t, e) {
			if time.Now().After(end) {
				t.Fatalf("%d listeners, want %d", i.NEventsListener, want)
			}
		}
		if want == 1 {
			listener.Process.Kill()
			listener.Wait()
		}
	}
	e.Run("rm", "-f", "one", "two", "three")

	t.Setenv("LADE_BENCH", "1") // the harness adds --debug without it
	e = harness.Start(t)
	if info(t, e).Debug {
		t.Error("the daemon was not started with --debug")
	}
}
