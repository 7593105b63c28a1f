package server

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/system"

	"lade/internal/engine"
	"lade/internal/errdefs"
	"lade/internal/logs"
	"lade/internal/need"
)

// scene is an engine in which the container of a recorded scenario runs.
type scene struct {
	fake
	t *testing.T
}

func recorded[T any](t *testing.T, file string) (v T) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var x exchange
	if err := json.Unmarshal(b, &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(x.Body, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func (s *scene) ContainerList(context.Context, engine.ListOptions) ([]container.Summary, error) {
	return recorded[[]container.Summary](s.t, "03-run/0094-GET-containers_json.json"), nil
}

func (s *scene) ContainerInspect(_ context.Context, name string, _ bool) (*container.InspectResponse, error) {
	if name != "full" {
		return nil, errdefs.NotFoundf("No such container: %s", name)
	}
	return recorded[*container.InspectResponse](s.t, "03-run/0091-GET-containers_full_json.json"), nil
}

func (s *scene) SystemVersion(context.Context) (system.VersionResponse, error) {
	return recorded[system.VersionResponse](s.t, "01-system/0007-GET-version.json"), nil
}

func (s *scene) SystemInfo(context.Context) (*system.Info, error) {
	return recorded[*system.Info](s.t, "01-system/0004-GET-v1.50_info.json"), nil
}

func (s *scene) ContainerLogs(context.Context, string, engine.LogsOptions) (engine.LogStream, error) {
	return engine.LogStream{Messages: messages(
		logs.Message{Stream: logs.Stdout, Line: []byte("out\n")},
		logs.Message{Stream: logs.Stderr, Line: []byte("err\n")},
	)}, nil
}

// TestDockerCLI lets the real client read our answers.
func TestDockerCLI(t *testing.T) {
	docker := need.Program(t, "docker", "the Docker CLI")
	socket := unixServer(t, New(&scene{t: t}, Options{Version: "29.7.2"}))
	run := func(args ...string) (stdout, stderr string, code int) {
		cmd := exec.CommandContext(t.Context(), docker, args...)
		cmd.Env = []string{"DOCKER_HOST=unix://" + socket, "HOME=" + t.TempDir(), "PATH=/usr/bin:/bin"}
		var out, errs strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return out.String(), errs.String(), cmd.ProcessState.ExitCode()
	}
	for _, x := range []struct {
		args   string
		stdout string
		stderr string
		code   int
	}{
		{args: "version --format {{.Server.Version}}/{{.Server.APIVersion}}/{{.Server.MinAPIVersion}}", stdout: "29.7.2/1.56/1.24\n"},
		{args: "ps --no-trunc --format {{.ID}}|{{.Command}}|{{.Ports}}|{{.Names}}|{{.Status}}",
			stdout: `f9b2ff0333a979876be2418c3a5b732dfe4e647867034ad097475c19f4aa6c65|"sleep 300"|127.0.0.1:28080->80/tcp, 0.0.0.0:28081->81/udp, [::]:28081->81/udp|full|Up 3 seconds (healthy)` + "\n"},
		{args: "ps -q", stdout: "f9b2ff0333a9\n"},
		{args: "port full", stdout: "80/tcp -> 127.0.0.1:28080\n81/udp -> 0.0.0.0:28081\n81/udp -> [::]:28081\n"},
		{args: "inspect --format {{.NetworkSettings.IPAddress}}|{{.HostConfig.Memory}}|{{.State.Health.Status}} full", stdout: "172.30.0.2|67108864|healthy\n"},
		{args: "info --format {{.Driver}}|{{.ServerVersion}}|{{.CgroupVersion}}|{{.Swarm.LocalNodeState}}", stdout: "overlayfs|29.7.2|1|inactive\n"},
		{args: "logs full", stdout: "out\n", stderr: "err\n"},
		{args: "inspect --type container nope", stdout: "[]\n", stderr: "Error response from daemon: No such container: nope\n", code: 1},
		{args: "network create x", stderr: "Error response from daemon: NetworkCreate is not implemented\n", code: 1},
		{args: "node ls", stderr: "Error response from daemon: This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.\n", code: 1},
	} {
		out, errs, code := run(strings.Fields(x.args)...)
		if out != x.stdout || errs != x.stderr || code != x.code {
			t.Errorf("docker %s: code %d\nstdout %q\n  want %q\nstderr %q\n  want %q", x.args, code, out, x.stdout, errs, x.stderr)
		}
	}
}
