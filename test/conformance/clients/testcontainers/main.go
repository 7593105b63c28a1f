// Command testcontainers starts what tests need with testcontainers-go. Its
// reaper, a container of an image on Docker Hub, is off.
package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	tc "github.com/testcontainers/testcontainers-go"
	tcexec "github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"

	. "lade/test/conformance/clients/tap"
)

var (
	image = os.Getenv("IMAGE")
	ctx   = context.Background()
)

func main() {
	var plan Plan
	plan.Check("provider: health, default network", func() {
		p := Must(tc.NewDockerProvider())
		defer p.Close()
		OK(p.Health(ctx))
		Must(p.DaemonHost(ctx))
	})
	plan.Check("a server that waits for HTTP, published ports", server)
	plan.Check("wait for log, health, exec, exit, file", waiting)
	plan.Check("exec, copy, logs, inspect, state", inside)
	plan.Check("networks: aliases", networks)
	plan.Check("volumes, tmpfs, environment, labels", volumes)
	plan.Check("life: stop, start, hooks", life)
	plan.Check("an image that is not there", absent)
	plan.End()
}

func run(options ...tc.ContainerCustomizer) *tc.DockerContainer {
	return Must(tc.Run(ctx, image, options...))
}

func end(c *tc.DockerContainer) { OK(c.Terminate(ctx, tc.StopTimeout(0), tc.RemoveVolumes())) }

func text(r io.Reader) string { return string(Must(io.ReadAll(r))) }

func server() {
	c := run(tc.WithCmd("sh", "-c", "cd /tmp; echo hello > index.html; exec httpd -f -h . -p 8080"), tc.WithExposedPorts("8080/tcp"),
		tc.WithWaitStrategy(wait.ForHTTP("/index.html").WithPort("8080/tcp").WithStartupTimeout(time.Minute)))
	defer end(c)
	r := Must(http.Get(Must(c.PortEndpoint(ctx, "8080/tcp", "http")) + "/index.html"))
	defer r.Body.Close()
	Same(text(r.Body), "hello\n")
	Same(Must(c.Host(ctx)) != "", true)
}

func waiting() {
	for _, s := range []wait.Strategy{
		wait.ForLog("ready").WithStartupTimeout(time.Minute),
		wait.ForExec([]string{"test", "-e", "/tmp/there"}).WithStartupTimeout(time.Minute),
		wait.ForFile("/tmp/there").WithStartupTimeout(time.Minute),
		wait.ForAll(wait.ForLog("ready"), wait.ForExec([]string{"true"})).WithDeadline(time.Minute),
	} {
		end(run(tc.WithCmd("sh", "-c", "touch /tmp/there; echo ready; exec sleep 1000"), tc.WithWaitStrategy(s)))
	}
	end(run(tc.WithCmd("true"), tc.WithWaitStrategy(wait.ForExit().WithExitTimeout(time.Minute))))
	end(run(tc.WithCmd("sleep", "1000"), tc.WithWaitStrategy(wait.ForHealthCheck().WithStartupTimeout(time.Minute)),
		tc.WithConfigModifier(func(c *container.Config) {
			c.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "true"}, Interval: 200 * time.Millisecond}
		})))
}

func inside() {
	c := run(tc.WithCmd("sh", "-c", "echo out; echo err >&2; exec sleep 1000"), tc.WithWaitStrategy(wait.ForLog("err")),
		tc.WithFiles(tc.ContainerFile{Reader: strings.NewReader("given"), ContainerFilePath: "/given", FileMode: 0o644}))
	defer end(c)
	code, r, err := c.Exec(ctx, []string{"sh", "-c", "cat /given; exit 3"}, tcexec.Multiplexed())
	OK(err)
	Same(code, 3)
	Same(text(r), "given")
	OK(c.CopyToContainer(ctx, []byte("more"), "/tmp/more", 0o600))
	f := Must(c.CopyFileFromContainer(ctx, "/tmp/more"))
	defer f.Close()
	Same(text(f), "more")
	logs := Must(c.Logs(ctx))
	defer logs.Close()
	all := text(logs)
	Has(all, "out\n")
	Has(all, "err\n")
	Same(Must(c.State(ctx)).Running, true)
	Same(Must(c.Inspect(ctx)).ID, c.GetContainerID())
	Same(Must(c.ContainerIP(ctx)) != "", true)
}

func networks() {
	n := Must(network.New(ctx))
	defer func() { OK(n.Remove(ctx)) }()
	a := run(tc.WithCmd("sleep", "1000"), network.WithNetwork([]string{"first"}, n))
	defer end(a)
	b := run(tc.WithCmd("sleep", "1000"), network.WithNetwork([]string{"second"}, n))
	defer end(b)
	code, _, err := b.Exec(ctx, []string{"nslookup", "first"})
	OK(err)
	Same(code, 0)
	Same(strings.Join(Must(a.Networks(ctx)), " "), n.Name)
}

func volumes() {
	c := run(tc.WithCmd("sleep", "1000"), tc.WithEnv(map[string]string{"A": "b"}), tc.WithLabels(map[string]string{"x": "y"}),
		tc.WithTmpfs(map[string]string{"/t": "size=1m"}), tc.WithMounts(tc.VolumeMount("tc-volume", "/v")),
		tc.WithHostConfigModifier(func(h *container.HostConfig) { h.Memory = 64 << 20 }))
	defer end(c)
	code, r, err := c.Exec(ctx, []string{"sh", "-c", "echo $A; touch /v/x && df /t | grep -c tmpfs"}, tcexec.Multiplexed())
	OK(err)
	Same(code, 0)
	Same(text(r), "b\n1\n")
	Same(Must(c.Inspect(ctx)).Config.Labels["x"], "y")
}

func life() {
	var seen []string
	note := func(what string) tc.ContainerHook {
		return func(context.Context, tc.Container) error { seen = append(seen, what); return nil }
	}
	c := run(tc.WithCmd("sleep", "1000"), tc.WithAdditionalLifecycleHooks(tc.ContainerLifecycleHooks{
		PostStarts: []tc.ContainerHook{note("started")}, PostStops: []tc.ContainerHook{note("stopped")},
	}))
	defer end(c)
	now := time.Duration(0)
	OK(c.Stop(ctx, &now))
	Same(c.IsRunning(), false)
	OK(c.Start(ctx))
	Same(c.IsRunning(), true)
	Same(strings.Join(seen, " "), "started stopped started")
}

func absent() {
	_, err := tc.Run(ctx, "127.0.0.1:1/nosuch:x")
	Refused(err, "connection refused")
}
