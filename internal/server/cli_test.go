package server

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/engine"
	"lade/internal/engine/prune"
	"lade/internal/engine/stats"
	"lade/internal/errdefs"
	"lade/internal/filters"
	"lade/internal/logs"
	"lade/internal/need"
	"lade/internal/server/stream"
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

func (s *scene) ContainerList(context.Context, engine.ListOptions) ([]*engine.Listed, error) {
	return listed(recorded[[]container.Summary](s.t, "03-run/0094-GET-containers_json.json")), nil
}

func (s *scene) ContainerInspect(_ context.Context, name string, _ bool) (*engine.InspectResponse, error) {
	if name != "full" {
		return nil, errdefs.NotFoundf("No such container: %s", name)
	}
	return recorded[*engine.InspectResponse](s.t, "03-run/0091-GET-containers_full_json.json"), nil
}

func (s *scene) SystemVersion(context.Context) (system.VersionResponse, error) {
	return recorded[system.VersionResponse](s.t, "01-system/0007-GET-version.json"), nil
}

func (s *scene) SystemInfo(context.Context) (*system.Info, error) {
	return recorded[*system.Info](s.t, "01-system/0004-GET-v1.50_info.json"), nil
}

func (s *scene) ImageInspect(_ context.Context, name string, _ *ocispec.Platform) (*image.InspectResponse, error) {
	return nil, errdefs.NotFoundf("No such image: %s:latest", name)
}

func (s *scene) NetworkInspect(_ context.Context, name string, _ bool) (*network.Inspect, error) {
	return nil, errdefs.NotFoundf("network %s not found", name)
}

func (s *scene) VolumeInspect(_ context.Context, name string) (*volume.Volume, error) {
	return nil, errdefs.NotFoundf("get %s: no such volume", name)
}

func (s *scene) ContainerTop(context.Context, string, []string) (container.TopResponse, error) {
	return recorded[container.TopResponse](s.t, "03-run/0103-GET-v1.50_containers_full_top.json"), nil
}

func (s *scene) ContainerStats(context.Context, string, stats.Options) (iter.Seq2[*stats.Sample, error], error) {
	one := &stats.Sample{StatsResponse: recorded[*container.StatsResponse](s.t, "03-run/0105-GET-v1.50_containers_full_stats.json")}
	return func(yield func(*stats.Sample, error) bool) { yield(one, nil) }, nil
}

func (s *scene) ContainerChanges(context.Context, string) ([]container.FilesystemChange, error) {
	return recorded[[]container.FilesystemChange](s.t, "03-run/0108-GET-v1.50_containers_full_changes.json"), nil
}

func (s *scene) ImageList(context.Context, engine.ImageListOptions) ([]image.Summary, error) {
	return recorded[[]image.Summary](s.t, "02-images/0028-GET-v1.50_images_json.json"), nil
}

func (s *scene) ImageHistory(context.Context, string, *ocispec.Platform) ([]image.HistoryResponseItem, error) {
	return recorded[[]image.HistoryResponseItem](s.t, "02-images/0038-GET-v1.50_images_busybox_history.json"), nil
}

func (s *scene) VolumeList(context.Context, filters.Args) (volume.ListResponse, error) {
	return recorded[volume.ListResponse](s.t, "07-volumes/0324-GET-v1.50_volumes.json"), nil
}

func (s *scene) NetworkList(context.Context, filters.Args) ([]network.Summary, error) {
	return recorded[[]network.Summary](s.t, "06-networks/0255-GET-v1.50_networks.json"), nil
}

func (s *scene) SystemDiskUsage(context.Context, prune.UsageOptions) (*system.DiskUsage, error) {
	return &system.DiskUsage{}, nil
}

func (s *scene) ContainerLogs(context.Context, string, engine.LogsOptions) (engine.LogStream, error) {
	return engine.LogStream{Messages: messages(
		logs.Message{Stream: logs.Stdout, Line: []byte("out\n")},
		logs.Message{Stream: logs.Stderr, Line: []byte("err\n")},
	)}, nil
}

// docker runs the real client against a backend.
type docker struct {
	t           *testing.T
	program     string
	home, hosts string
}

func dockerFor(t *testing.T, b Backend) docker {
	t.Helper()
	p := need.Program(t, "docker", "the Docker CLI")
	return docker{t, p, t.TempDir(), "unix://" + unixServer(t, New(b, Options{Version: "29.7.2"}))}
}

func (d docker) run(stdin string, args ...string) (stdout, stderr string, code int) {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), d.program, args...)
	cmd.Env = []string{"DOCKER_HOST=" + d.hosts, "HOME=" + d.home, "PATH=/usr/bin:/bin"}
	if v, ok := strings.CutPrefix(args[0], "1."); ok {
		cmd.Args = append(cmd.Args[:1], args[1:]...)
		cmd.Env = append(cmd.Env, "DOCKER_API_VERSION=1."+v)
	}
	var out, errs strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		d.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// TestDockerCLI lets the real client read our answers. An argument like 1.40 in
// front makes it speak that version.
func TestDockerCLI(t *testing.T) {
	d := dockerFor(t, &scene{t: t})
	for _, x := range []struct {
		args   string
		stdout string
		stderr string
		code   int
	}{
		{args: "version --format {{.Server.Version}}/{{.Server.APIVersion}}/{{.Server.MinAPIVersion}}", stdout: "29.7.2/1.56/1.24\n"},
		{args: "ps --no-trunc --format {{.ID}}|{{.Command}}|{{.Ports}}|{{.Names}}|{{.Status}}",
			stdout: `f9b2ff0333a979876be2418c3a5b732dfe4e647867034ad097475c19f4aa6c65|"sleep 300"|127.0.0.1:28080->80/tcp, 0.0.0.0:28081->81/udp, [::]:28081->81/udp|full|Up 3 seconds (healthy)` + "\n"},
		{args: "1.24 ps --format {{.Names}}|{{.Ports}}", stdout: "full|127.0.0.1:28080->80/tcp, 0.0.0.0:28081->81/udp, [::]:28081->81/udp\n"},
		{args: "1.24 inspect --format {{.NetworkSettings.Networks.bridge.IPAddress}} full", stdout: "172.30.0.2\n"},
		{args: "1.24 info --format {{.ID}}|{{.ContainerdCommit.Expected}}", stdout: "1cdbcbca-1044-4fde-8e46-0477979348ab|db8809540e1a7a9da5d518876894933ff55692ab\n"},
		{args: "1.57 ps", stderr: "Error response from daemon: client version 1.57 is too new. Maximum supported API version is 1.56\n", code: 1},
		{args: "top full", stdout: "PID                 COMMAND\n11861               docker-init\n12011               sleep\n"},
		{args: "stats --no-stream --format {{.Name}}|{{.MemUsage}}|{{.PIDs}} full", stdout: "full|812KiB / 64MiB|2\n"},
		{args: "diff full", stdout: "A /sbin\nA /sbin/docker-init\nA /t\nA /data\nA /host\n"},
		{args: "images -q", stdout: "dc8a8ea997aa\ndc8a8ea997aa\n"},
		{args: "history --format {{.ID}}|{{.Size}} busybox", stdout: "dc8a8ea997aa|2.03MB\n"},
		{args: "volume ls -q", stdout: "v1\nv2\n"},
		{args: "network ls --format {{.Name}}/{{.Driver}}", stdout: "bridge/bridge\nhost/host\nnone/null\n"},
		{args: "system df --format {{.Type}}|{{.TotalCount}}", stdout: "Images|0\nContainers|0\nLocal Volumes|0\nBuild Cache|0\n"},
		{args: "ps -q", stdout: "f9b2ff0333a9\n"},
		{args: "port full", stdout: "80/tcp -> 127.0.0.1:28080\n81/udp -> 0.0.0.0:28081\n81/udp -> [::]:28081\n"},
		{args: "inspect --format {{.NetworkSettings.IPAddress}}|{{.HostConfig.Memory}}|{{.State.Health.Status}} full", stdout: "172.30.0.2|67108864|healthy\n"},
		{args: "info --format {{.Driver}}|{{.ServerVersion}}|{{.CgroupVersion}}|{{.Swarm.LocalNodeState}}", stdout: "overlayfs|29.7.2|1|inactive\n"},
		{args: "logs full", stdout: "out\n", stderr: "err\n"},
		{args: "inspect --type container nope", stdout: "[]\n", stderr: "Error response from daemon: No such container: nope\n", code: 1},
		{args: "inspect nope", stdout: "[]\n", stderr: "Error: No such object: nope\n", code: 1},
		{args: "node ls", stderr: "Error response from daemon: This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.\n", code: 1},
	} {
		out, errs, code := d.run("", strings.Fields(x.args)...)
		if out != x.stdout || errs != x.stderr || code != x.code {
			t.Errorf("docker %s: code %d\nstdout %q\n  want %q\nstderr %q\n  want %q", x.args, code, out, x.stdout, errs, x.stderr)
		}
	}
}

type attachment struct {
	engine.Conn
	stdin bool
}

// runner is an engine for one container, a cat that exits with 3 when its
// input ends. Without input it says hello.
type runner struct {
	fake
	attached chan attachment
	exit     chan container.WaitResponse
}

func (r *runner) ContainerCreate(context.Context, engine.CreateOptions) (container.CreateResponse, error) {
	r.exit, r.attached = make(chan container.WaitResponse, 1), make(chan attachment, 1)
	return container.CreateResponse{ID: strings.Repeat("ab", 32)}, nil
}

func (r *runner) ContainerAttach(_ context.Context, _ string, o engine.AttachOptions) error {
	c, err := o.Hijack(false)
	r.attached <- attachment{c, o.Stdin}
	return err
}

func (r *runner) ContainerWait(context.Context, string, container.WaitCondition) (<-chan container.WaitResponse, error) {
	return r.exit, nil
}

func (r *runner) ContainerStart(context.Context, string) error {
	conn := <-r.attached
	text := []byte("hello\n")
	if conn.stdin {
		var err error
		if text, err = io.ReadAll(conn.File); err != nil {
			return err
		}
		text = append(conn.Early, text...)
	}
	if _, err := conn.File.Write(append(stream.Frame(nil, logs.Stdout, len(text)), text...)); err != nil {
		return err
	}
	if _, err := conn.File.Write(append(stream.Frame(nil, logs.Stderr, 4), "bye\n"...)); err != nil {
		return err
	}
	r.exit <- container.WaitResponse{StatusCode: 3}
	return conn.File.Close()
}

// TestDockerRun: create, attach, wait and start in the client's order, with
// streams apart, input to its end and the exit status.
func TestDockerRun(t *testing.T) {
	d := dockerFor(t, &runner{})
	for _, version := range []string{"1.30", "1.41", "1.50"} {
		out, errs, code := d.run("", version, "run", "--rm", "busybox")
		if out != "hello\n" || errs != "bye\n" || code != 3 {
			t.Errorf("%s: %q %q %d", version, out, errs, code)
		}
	}
	// The end of input comes before the start here, as it does with a fast producer.
	out, errs, code := d.run("input\n", "run", "-i", "busybox")
	if out != "input\n" || errs != "bye\n" || code != 3 {
		t.Errorf("-i: %q %q %d", out, errs, code)
	}
}

// TestDockerImages: the client shows progress and errors of transfers.
func TestDockerImages(t *testing.T) {
	answering := func(body string) docker { return dockerFor(t, &fake{body: []byte(body)}) }
	d := answering(`[{"status":"Pulling from library/busybox","id":"latest"},{"status":"Pull complete","id":"aa"}]`)
	out, errs, code := d.run("", "pull", "busybox:latest")
	if out != "latest: Pulling from library/busybox\naa: Pull complete\ndocker.io/library/busybox:latest\n" || errs != "" || code != 0 {
		t.Errorf("%q %q %d", out, errs, code)
	}
	d = answering(`[{"errorDetail":{"message":"boom"}}]`)
	if out, errs, code := d.run("", "pull", "busybox:latest"); errs != "boom\n" || code != 1 {
		t.Errorf("%q %q %d", out, errs, code)
	}
	d = answering(`[{"stream":"Loaded image: x:latest\n"}]`)
	if out, errs, code := d.run("tar", "load"); out != "Loaded image: x:latest\n" || code != 0 {
		t.Errorf("%q %q %d", out, errs, code)
	}
	d = answering("a tar")
	if out, errs, code := d.run("", "save", "busybox"); out != "a tar" || code != 0 {
		t.Errorf("%q %q %d", out, errs, code)
	}
	if _, errs, code := d.run("", "build", "-q", "-"); code == 0 {
		t.Errorf("%q %d", errs, code)
	}
}
