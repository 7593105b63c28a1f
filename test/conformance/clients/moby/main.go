// Command moby goes through an engine with Docker's own client library: what
// docker CLI and Compose are made of. It also reads statistics as ctop and
// lazydocker do: a stream for each container, and all lists again and again.
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	. "lade/test/conformance/clients/tap"
)

var (
	image  = os.Getenv("IMAGE")
	subnet = os.Getenv("NET")
	labels = map[string]string{"conformance": "moby"}
)

// mine are filters for what this program made; the library changes them.
func mine() client.Filters { return client.Filters{}.Add("label", "conformance=moby") }

type program struct {
	*client.Client
	ctx context.Context
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	c, err := client.New(client.FromEnv)
	OK(err)
	p := &program{c, ctx}
	var plan Plan
	for _, check := range []struct {
		name string
		f    func(*program)
	}{
		{"system: ping, version, info, df", (*program).system},
		{"containers: life", (*program).life},
		{"containers: errors by kind", (*program).errors},
		{"containers: list, filters, inspect", (*program).list},
		{"attach: streams, half-close", (*program).attach},
		{"attach: terminal", (*program).terminal},
		{"exec: streams, status, half-close", (*program).exec},
		{"exec: terminal, size", (*program).execTerminal},
		{"logs: follow", (*program).logs},
		{"copy: in, out, stat, diff", (*program).copy},
		{"images: commit, tag, list, history, save, load, remove, prune", (*program).images},
		{"networks: create, connect, list, disconnect, remove, prune", (*program).networks},
		{"volumes: create, mount, list, remove, prune", (*program).volumes},
		{"events: of a life", (*program).events},
		{"stats: of several containers at once", (*program).stats},
		{"containers: prune", (*program).prune},
		{"swarm, plugins, build: what is not there", (*program).absent},
	} {
		plan.Check(check.name, func() { check.f(p) })
	}
	plan.End()
}

// run starts a container; a nil host has nothing special.
func (p *program) run(name string, host *container.HostConfig, command ...string) string {
	if host == nil {
		host = &container.HostConfig{}
	}
	init := true
	host.Init = &init
	id := Must(p.ContainerCreate(p.ctx, client.ContainerCreateOptions{
		Name: name, Config: &container.Config{Image: image, Cmd: command, Labels: labels, OpenStdin: true}, HostConfig: host,
	})).ID
	Must(p.ContainerStart(p.ctx, id, client.ContainerStartOptions{}))
	return id
}

func (p *program) remove(id string) {
	Must(p.ContainerRemove(p.ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}))
}

func (p *program) wait(id string, condition container.WaitCondition) int64 {
	w := p.ContainerWait(p.ctx, id, client.ContainerWaitOptions{Condition: condition})
	select {
	case r := <-w.Result:
		return r.StatusCode
	case err := <-w.Error:
		Fail("wait: %v", err)
	}
	return 0
}

// apart reads both streams of a connection to their end.
func apart(r io.Reader) (out, err string) {
	var o, e bytes.Buffer
	Must(stdcopy.StdCopy(&o, &e, r))
	return o.String(), e.String()
}

func (p *program) system() {
	ping := Must(p.Ping(p.ctx, client.PingOptions{NegotiateAPIVersion: true}))
	Same(ping.OSType, "linux")
	v := Must(p.ServerVersion(p.ctx, client.ServerVersionOptions{}))
	Same(v.APIVersion, ping.APIVersion)
	Same(v.APIVersion, p.ClientVersion())
	i := Must(p.Info(p.ctx, client.InfoOptions{})).Info
	if i.ID == "" || i.NCPU == 0 || i.MemTotal == 0 || i.Driver == "" || i.ServerVersion != v.Version {
		Fail("%+v", i)
	}
	Must(p.DiskUsage(p.ctx, client.DiskUsageOptions{Containers: true, Images: true, Volumes: true, BuildCache: true, Verbose: true}))
}

func (p *program) life() {
	id := p.run("moby-life", &container.HostConfig{Resources: container.Resources{Memory: 64 << 20}}, "sleep", "1000")
	defer p.remove(id)
	Must(p.ContainerPause(p.ctx, id, client.ContainerPauseOptions{}))
	Must(p.ContainerUnpause(p.ctx, id, client.ContainerUnpauseOptions{}))
	Must(p.ContainerRename(p.ctx, id, client.ContainerRenameOptions{NewName: "moby-life2"}))
	Must(p.ContainerUpdate(p.ctx, id, client.ContainerUpdateOptions{Resources: &container.Resources{Memory: 128 << 20, MemorySwap: 128 << 20}}))
	second := 1
	Must(p.ContainerRestart(p.ctx, "moby-life2", client.ContainerRestartOptions{Timeout: &second}))
	i := Must(p.ContainerInspect(p.ctx, id, client.ContainerInspectOptions{Size: true})).Container
	Same(i.Name, "/moby-life2")
	Same(i.HostConfig.Memory, 128<<20)
	Same(string(i.State.Status), "running")
	top := Must(p.ContainerTop(p.ctx, id, client.ContainerTopOptions{Arguments: []string{"-o", "pid,args"}}))
	Same(strings.Join(top.Titles, " "), "PID COMMAND")
	Must(p.ContainerKill(p.ctx, id, client.ContainerKillOptions{Signal: "KILL"}))
	Same(p.wait(id, container.WaitConditionNotRunning), 137)
}

func (p *program) errors() {
	_, err := p.ContainerInspect(p.ctx, "nosuch", client.ContainerInspectOptions{})
	Refused(err, "No such container: nosuch")
	Same(errdefs.IsNotFound(err), true)
	_, err = p.ContainerCreate(p.ctx, client.ContainerCreateOptions{Config: &container.Config{Image: "nosuch"}})
	Same(errdefs.IsNotFound(err), true)
	_, err = p.ContainerCreate(p.ctx, client.ContainerCreateOptions{Name: "a/b", Config: &container.Config{Image: image}})
	Same(errdefs.IsInvalidArgument(err), true)
	id := p.run("moby-errors", nil, "sleep", "1000")
	defer p.remove(id)
	_, err = p.ContainerCreate(p.ctx, client.ContainerCreateOptions{Name: "moby-errors", Config: &container.Config{Image: image}})
	Same(errdefs.IsConflict(err), true)
	_, err = p.ContainerRemove(p.ctx, id, client.ContainerRemoveOptions{})
	Same(errdefs.IsConflict(err), true)
	_, err = p.ContainerUnpause(p.ctx, id, client.ContainerUnpauseOptions{})
	Refused(err, "is not paused")
}

func (p *program) list() {
	id := p.run("moby-list", nil, "sleep", "1000")
	defer p.remove(id)
	got := Must(p.ContainerList(p.ctx, client.ContainerListOptions{Filters: mine(), Size: true})).Items
	Same(len(got), 1)
	Same(got[0].ID, id)
	Same(got[0].Names[0], "/moby-list")
	_, err := p.ContainerList(p.ctx, client.ContainerListOptions{Filters: client.Filters{}.Add("nosuch", "x")})
	Same(errdefs.IsInvalidArgument(err), true)
}

func (p *program) attach() {
	id := Must(p.ContainerCreate(p.ctx, client.ContainerCreateOptions{Config: &container.Config{
		Image: image, Cmd: []string{"sh", "-c", "cat; echo end >&2; exit 3"}, Labels: labels, OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true,
	}})).ID
	defer p.remove(id)
	conn := Must(p.ContainerAttach(p.ctx, id, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true}))
	defer conn.Close()
	media, _ := conn.MediaType()
	Same(media, "application/vnd.docker.multiplexed-stream")
	end := p.ContainerWait(p.ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	Must(p.ContainerStart(p.ctx, id, client.ContainerStartOptions{}))
	Must(conn.Conn.Write([]byte("one\n")))
	OK(conn.CloseWrite())
	out, errs := apart(conn.Reader)
	Same(out, "one\n")
	Same(errs, "end\n")
	select {
	case r := <-end.Result:
		Same(r.StatusCode, 3)
	case err := <-end.Error:
		OK(err)
	}
}

func (p *program) terminal() {
	id := Must(p.ContainerCreate(p.ctx, client.ContainerCreateOptions{Config: &container.Config{
		Image: image, Cmd: []string{"sh"}, Labels: labels, OpenStdin: true, Tty: true,
	}})).ID
	defer p.remove(id)
	conn := Must(p.ContainerAttach(p.ctx, id, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true}))
	defer conn.Close()
	media, _ := conn.MediaType()
	Same(media, "application/vnd.docker.raw-stream")
	Must(p.ContainerStart(p.ctx, id, client.ContainerStartOptions{}))
	Must(p.ContainerResize(p.ctx, id, client.ContainerResizeOptions{Height: 30, Width: 90}))
	Must(conn.Conn.Write([]byte("echo $((6*7))\nexit 4\n")))
	Has(string(Must(io.ReadAll(conn.Reader))), "42\r\n")
	Same(p.wait(id, container.WaitConditionNotRunning), 4)
}

func (p *program) exec() {
	id := p.run("", nil, "sleep", "1000")
	defer p.remove(id)
	e := Must(p.ExecCreate(p.ctx, id, client.ExecCreateOptions{
		Cmd: []string{"sh", "-c", "cat; echo $A $PWD; id -u; echo bad >&2; exit 5"}, Env: []string{"A=b"}, WorkingDir: "/tmp", User: "7",
		AttachStdin: true, AttachStdout: true, AttachStderr: true,
	})).ID
	conn := Must(p.ExecAttach(p.ctx, e, client.ExecAttachOptions{}))
	defer conn.Close()
	Must(conn.Conn.Write([]byte("in\n")))
	OK(conn.CloseWrite())
	out, errs := apart(conn.Reader)
	Same(out, "in\nb /tmp\n7\n")
	Same(errs, "bad\n")
	i := Must(p.ExecInspect(p.ctx, e, client.ExecInspectOptions{}))
	Same(i.ExitCode, 5)
	Same(i.Running, false)
	d := Must(p.ExecCreate(p.ctx, id, client.ExecCreateOptions{Cmd: []string{"sleep", "1000"}})).ID
	Must(p.ExecStart(p.ctx, d, client.ExecStartOptions{Detach: true}))
	Same(Must(p.ExecInspect(p.ctx, d, client.ExecInspectOptions{})).Running, true)
}

func (p *program) execTerminal() {
	id := p.run("", nil, "sleep", "1000")
	defer p.remove(id)
	e := Must(p.ExecCreate(p.ctx, id, client.ExecCreateOptions{Cmd: []string{"sh"}, TTY: true, AttachStdin: true, AttachStdout: true, AttachStderr: true})).ID
	conn := Must(p.ExecAttach(p.ctx, e, client.ExecAttachOptions{TTY: true, ConsoleSize: client.ConsoleSize{Height: 10, Width: 80}}))
	defer conn.Close()
	Must(p.ExecResize(p.ctx, e, client.ExecResizeOptions{Height: 20, Width: 90}))
	Must(conn.Conn.Write([]byte("tty; exit 6\n")))
	Has(string(Must(io.ReadAll(conn.Reader))), "/dev/pts/")
	Same(Must(p.ExecInspect(p.ctx, e, client.ExecInspectOptions{})).ExitCode, 6)
}

func (p *program) logs() {
	id := p.run("", nil, "sh", "-c", "echo first; echo second >&2; read x; echo last")
	defer p.remove(id)
	r := Must(p.ContainerLogs(p.ctx, id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Follow: true}))
	defer r.Close()
	conn := Must(p.ContainerAttach(p.ctx, id, client.ContainerAttachOptions{Stream: true, Stdin: true}))
	Must(conn.Conn.Write([]byte("go\n")))
	conn.Close()
	out, errs := apart(r) // it ends with the container
	Same(out, "first\nlast\n")
	Same(errs, "second\n")
	all := Must(p.ContainerLogs(p.ctx, id, client.ContainerLogsOptions{ShowStdout: true, Timestamps: true}))
	out, _ = apart(all)
	all.Close()
	Has(out, "Z last\n")
}

func archive(name, content string) io.Reader {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	OK(w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}))
	Must(w.Write([]byte(content)))
	OK(w.Close())
	return &b
}

func (p *program) copy() {
	id := p.run("", nil, "sleep", "1000")
	defer p.remove(id)
	Must(p.CopyToContainer(p.ctx, id, client.CopyToContainerOptions{DestinationPath: "/tmp", Content: archive("f", "content")}))
	got := Must(p.CopyFromContainer(p.ctx, id, client.CopyFromContainerOptions{SourcePath: "/tmp/f"}))
	defer got.Content.Close()
	Same(got.Stat.Size, 7)
	t := tar.NewReader(got.Content)
	Same(Must(t.Next()).Name, "f")
	Same(string(Must(io.ReadAll(t))), "content")
	stat := Must(p.ContainerStatPath(p.ctx, id, client.ContainerStatPathOptions{Path: "/tmp"}))
	Same(stat.Stat.Mode.IsDir(), true)
	_, err := p.ContainerStatPath(p.ctx, id, client.ContainerStatPathOptions{Path: "/nosuch"})
	Same(errdefs.IsNotFound(err), true)
	found := false
	for _, c := range Must(p.ContainerDiff(p.ctx, id, client.ContainerDiffOptions{})).Changes {
		found = found || c.Path == "/tmp/f" && c.Kind == container.ChangeAdd
	}
	Same(found, true)
}

func (p *program) images() {
	id := p.run("", nil, "sleep", "1000")
	defer p.remove(id)
	made := Must(p.ContainerCommit(p.ctx, id, client.ContainerCommitOptions{Reference: "conformance/moby:a", Comment: "a word", Changes: []string{"LABEL conformance=moby"}})).ID
	Must(p.ImageTag(p.ctx, client.ImageTagOptions{Source: "conformance/moby:a", Target: "conformance/moby:b"}))
	i := Must(p.ImageInspect(p.ctx, "conformance/moby:b"))
	Same(i.ID, made)
	Same(Must(p.ImageHistory(p.ctx, made)).Items[0].Comment, "a word")
	got := Must(p.ImageList(p.ctx, client.ImageListOptions{Filters: client.Filters{}.Add("reference", "conformance/moby")})).Items
	Same(len(got), 1)
	Same(len(got[0].RepoTags), 2)
	saved := Must(p.ImageSave(p.ctx, []string{"conformance/moby:a"}))
	data := Must(io.ReadAll(saved))
	saved.Close()
	for _, tag := range []string{"a", "b"} {
		Must(p.ImageRemove(p.ctx, "conformance/moby:"+tag, client.ImageRemoveOptions{}))
	}
	loaded := Must(p.ImageLoad(p.ctx, bytes.NewReader(data)))
	Has(string(Must(io.ReadAll(loaded))), "Loaded image: conformance/moby:a")
	loaded.Close()
	Must(p.ImageRemove(p.ctx, "conformance/moby:a", client.ImageRemoveOptions{PruneChildren: true}))
	Must(p.ImagePrune(p.ctx, client.ImagePruneOptions{Filters: mine()}))
	r, err := p.ImagePull(p.ctx, "127.0.0.1:1/nosuch", client.ImagePullOptions{})
	if err == nil {
		err = r.Wait(p.ctx)
	}
	Refused(err, "connection refused")
}

func (p *program) networks() {
	id := p.run("moby-net", nil, "sleep", "1000")
	defer p.remove(id)
	n := Must(p.NetworkCreate(p.ctx, "moby-net", client.NetworkCreateOptions{
		Labels: labels, IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix(subnet + ".0/24")}}},
	})).ID
	Must(p.NetworkConnect(p.ctx, n, client.NetworkConnectOptions{Container: id, EndpointConfig: &network.EndpointSettings{Aliases: []string{"other"}}}))
	i := Must(p.NetworkInspect(p.ctx, "moby-net", client.NetworkInspectOptions{})).Network
	Same(i.Containers[id].Name, "moby-net")
	Same(len(Must(p.NetworkList(p.ctx, client.NetworkListOptions{Filters: mine()})).Items), 1)
	_, err := p.NetworkRemove(p.ctx, n, client.NetworkRemoveOptions{})
	Refused(err, "has active endpoints")
	Must(p.NetworkDisconnect(p.ctx, n, client.NetworkDisconnectOptions{Container: id}))
	Same(Must(p.NetworkPrune(p.ctx, client.NetworkPruneOptions{Filters: mine()})).Report.NetworksDeleted[0], "moby-net")
}

func (p *program) volumes() {
	v := Must(p.VolumeCreate(p.ctx, client.VolumeCreateOptions{Name: "moby-volume", Labels: labels})).Volume
	Same(v.Driver, "local")
	id := p.run("", &container.HostConfig{Mounts: []mount.Mount{{Type: mount.TypeVolume, Source: "moby-volume", Target: "/v"}}}, "sleep", "1000")
	_, err := p.VolumeRemove(p.ctx, "moby-volume", client.VolumeRemoveOptions{})
	Refused(err, "volume is in use")
	p.remove(id)
	Same(len(Must(p.VolumeList(p.ctx, client.VolumeListOptions{Filters: mine()})).Items), 1)
	Same(Must(p.VolumePrune(p.ctx, client.VolumePruneOptions{All: true, Filters: mine()})).Report.VolumesDeleted[0], "moby-volume")
}

func (p *program) events() {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	r := p.Events(ctx, client.EventsListOptions{Filters: client.Filters{}.Add("label", "conformance=moby").Add("type", "container")})
	id := p.run("moby-events", nil, "true")
	p.wait(id, container.WaitConditionNotRunning)
	p.remove(id)
	var seen []string
	for {
		select {
		case m := <-r.Messages:
			seen = append(seen, string(m.Action))
			Same(m.Actor.Attributes["name"], "moby-events")
			if m.Action == events.ActionDestroy {
				Same(strings.Join(seen, " "), "create start die destroy")
				return
			}
		case err := <-r.Err:
			Fail("%v after %v", err, seen)
		}
	}
}

func (p *program) stats() {
	const n = 5
	samples := make(chan container.StatsResponse)
	for range n {
		id := p.run("", &container.HostConfig{Resources: container.Resources{Memory: 32 << 20}}, "sh", "-c", "while :; do :; done")
		defer p.remove(id)
		r := Must(p.ContainerStats(p.ctx, id, client.ContainerStatsOptions{Stream: true}))
		defer r.Body.Close()
		go func() {
			for d := json.NewDecoder(r.Body); ; {
				var s container.StatsResponse
				if d.Decode(&s) != nil {
					return
				}
				select {
				case samples <- s:
				case <-p.ctx.Done():
					return
				}
			}
		}()
	}
	// As a monitor computes them: the second sample of each has a difference.
	busy := map[string]bool{}
	for len(busy) < n {
		select {
		case s := <-samples:
			used := s.CPUStats.CPUUsage.TotalUsage - s.PreCPUStats.CPUUsage.TotalUsage
			if s.PreCPUStats.SystemUsage != 0 && s.CPUStats.SystemUsage > s.PreCPUStats.SystemUsage && used > 0 {
				busy[s.ID] = true
			}
			Same(s.MemoryStats.Limit, 32<<20)
			Same(s.CPUStats.OnlineCPUs > 0 && len(s.Networks) == 1 && s.PidsStats.Current > 0, true)
		case <-p.ctx.Done():
			Fail("only %d of %d were seen to work", len(busy), n)
		}
	}
}

func (p *program) prune() {
	id := p.run("", nil, "true")
	p.wait(id, container.WaitConditionNotRunning)
	got := Must(p.ContainerPrune(p.ctx, client.ContainerPruneOptions{Filters: mine()})).Report.ContainersDeleted
	Same(len(got), 1)
	Same(got[0], id)
}

func (p *program) absent() {
	_, err := p.SwarmInspect(p.ctx, client.SwarmInspectOptions{})
	Refused(err, "This node is not a swarm manager")
	Same(len(Must(p.PluginList(p.ctx, client.PluginListOptions{})).Items), 0)
}
