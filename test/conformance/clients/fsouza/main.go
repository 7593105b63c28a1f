// Command fsouza goes through an engine with github.com/fsouza/go-dockerclient,
// which ctop and many older programs are made with.
package main

import (
	"archive/tar"
	"bytes"
	"os"
	"strings"

	docker "github.com/fsouza/go-dockerclient"

	. "lade/test/conformance/clients/tap"
)

var (
	image  = os.Getenv("IMAGE")
	labels = map[string]string{"conformance": "fsouza"}
	mine   = map[string][]string{"label": {"conformance=fsouza"}}
)

func main() {
	c := Must(docker.NewClientFromEnv())
	var plan Plan
	for _, check := range []struct {
		name string
		f    func(*docker.Client)
	}{
		{"system: ping, version, info, df", system},
		{"containers: life, list, errors", life},
		{"attach: streams", attach},
		{"exec: streams, status, terminal", exec},
		{"logs: follow", logs},
		{"stats: a stream and one", stats},
		{"copy: in, out, diff, export", files},
		{"images: commit, tag, list, history, save, load, remove", images},
		{"networks: create, connect, list, disconnect, remove", networks},
		{"volumes: create, list, inspect, remove, prune", volumes},
		{"events: of a life", events},
		{"containers: prune", prune},
	} {
		plan.Check(check.name, func() { check.f(c) })
	}
	plan.End()
}

func start(c *docker.Client, name string, host *docker.HostConfig, command ...string) *docker.Container {
	if host == nil {
		host = &docker.HostConfig{}
	}
	host.Init = true
	box := Must(c.CreateContainer(docker.CreateContainerOptions{
		Name: name, Config: &docker.Config{Image: image, Cmd: command, Labels: labels, OpenStdin: true}, HostConfig: host,
	}))
	OK(c.StartContainer(box.ID, nil))
	return box
}

func remove(c *docker.Client, box *docker.Container) {
	OK(c.RemoveContainer(docker.RemoveContainerOptions{ID: box.ID, Force: true, RemoveVolumes: true}))
}

func system(c *docker.Client) {
	OK(c.Ping())
	v := Must(c.Version())
	Same(v.Get("Os"), "linux")
	i := Must(c.Info())
	Same(i.ServerVersion, v.Get("Version"))
	Same(i.NCPU > 0 && i.MemTotal > 0 && i.Driver != "", true)
	Must(c.DiskUsage(docker.DiskUsageOptions{}))
}

func life(c *docker.Client) {
	box := start(c, "fs-life", &docker.HostConfig{Memory: 64 << 20, RestartPolicy: docker.RestartPolicy{Name: "no"}}, "sleep", "1000")
	OK(c.PauseContainer(box.ID))
	OK(c.UnpauseContainer(box.ID))
	OK(c.RenameContainer(docker.RenameContainerOptions{ID: box.ID, Name: "fs-life2"}))
	OK(c.UpdateContainer(box.ID, docker.UpdateContainerOptions{Memory: 128 << 20, MemorySwap: 128 << 20}))
	OK(c.RestartContainer(box.ID, 1))
	i := Must(c.InspectContainerWithOptions(docker.InspectContainerOptions{ID: box.ID, Size: true}))
	Same(i.Name, "/fs-life2")
	Same(i.State.Running, true)
	Same(i.HostConfig.Memory, 128<<20)
	list := Must(c.ListContainers(docker.ListContainersOptions{Filters: mine}))
	Same(len(list), 1)
	Same(list[0].State, "running")
	Has(strings.Join(Must(c.TopContainer(box.ID, "aux")).Titles, " "), "%CPU")
	OK(c.KillContainer(docker.KillContainerOptions{ID: box.ID}))
	Same(Must(c.WaitContainer(box.ID)), 137)
	remove(c, box)
	_, err := c.InspectContainerWithOptions(docker.InspectContainerOptions{ID: box.ID})
	_, gone := err.(*docker.NoSuchContainer)
	Same(gone, true)
	_, err = c.CreateContainer(docker.CreateContainerOptions{Config: &docker.Config{Image: "nosuch"}})
	Same(err == docker.ErrNoSuchImage, true)
	_, gone = c.StopContainer("nosuch", 1).(*docker.NoSuchContainer)
	Same(gone, true)
}

func attach(c *docker.Client) {
	box := Must(c.CreateContainer(docker.CreateContainerOptions{Config: &docker.Config{
		Image: image, Cmd: []string{"sh", "-c", "cat; echo end >&2"}, Labels: labels, OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true,
	}}))
	defer remove(c, box)
	var out, errs bytes.Buffer
	there := make(chan struct{})
	w := Must(c.AttachToContainerNonBlocking(docker.AttachToContainerOptions{
		Container: box.ID, InputStream: strings.NewReader("one\n"), OutputStream: &out, ErrorStream: &errs,
		Stdin: true, Stdout: true, Stderr: true, Stream: true, Success: there,
	}))
	<-there
	there <- struct{}{}
	OK(c.StartContainer(box.ID, nil))
	OK(w.Wait())
	Same(out.String(), "one\n")
	Same(errs.String(), "end\n")
}

func exec(c *docker.Client) {
	box := start(c, "", nil, "sleep", "1000")
	defer remove(c, box)
	run := func(tty bool, in string, command ...string) (string, string, int) {
		e := Must(c.CreateExec(docker.CreateExecOptions{
			Container: box.ID, Cmd: command, Tty: tty, AttachStdin: in != "", AttachStdout: true, AttachStderr: true, Env: []string{"A=b"}, WorkingDir: "/tmp", User: "7",
		}))
		var out, errs bytes.Buffer
		OK(c.StartExec(e.ID, docker.StartExecOptions{Tty: tty, RawTerminal: tty, InputStream: strings.NewReader(in), OutputStream: &out, ErrorStream: &errs}))
		return out.String(), errs.String(), Must(c.InspectExec(e.ID)).ExitCode
	}
	out, errs, code := run(false, "in\n", "sh", "-c", "cat; echo $A $PWD; echo bad >&2; exit 5")
	Same(out, "in\nb /tmp\n")
	Same(errs, "bad\n")
	Same(code, 5)
	out, _, code = run(true, "", "sh", "-c", "tty; exit 6")
	Has(out, "/dev/pts/")
	Same(code, 6)
}

func logs(c *docker.Client) {
	box := start(c, "", nil, "sh", "-c", "echo one; echo two >&2; echo three")
	defer remove(c, box)
	var out, errs bytes.Buffer
	OK(c.Logs(docker.LogsOptions{Container: box.ID, OutputStream: &out, ErrorStream: &errs, Stdout: true, Stderr: true, Follow: true}))
	Same(out.String(), "one\nthree\n")
	Same(errs.String(), "two\n")
}

func stats(c *docker.Client) {
	box := start(c, "", &docker.HostConfig{Memory: 64 << 20}, "sleep", "1000")
	defer remove(c, box)
	all, done := make(chan *docker.Stats), make(chan bool)
	go func() {
		_ = c.Stats(docker.StatsOptions{ID: box.ID, Stats: all, Stream: true, Done: done}) // says that we ended it
	}()
	one := <-all
	two := <-all
	close(done)
	for range all { // until it has ended
	}
	Same(two.MemoryStats.Limit, uint64(64<<20))
	Same(two.PreCPUStats.SystemCPUUsage, one.CPUStats.SystemCPUUsage)
	Same(two.Read.After(one.Read), true)
}

func files(c *docker.Client) {
	box := start(c, "", nil, "sleep", "1000")
	defer remove(c, box)
	var in, out bytes.Buffer
	w := tar.NewWriter(&in)
	OK(w.WriteHeader(&tar.Header{Name: "f", Mode: 0o644, Size: 7}))
	Must(w.Write([]byte("content")))
	OK(w.Close())
	OK(c.UploadToContainer(box.ID, docker.UploadToContainerOptions{InputStream: &in, Path: "/tmp"}))
	OK(c.DownloadFromContainer(box.ID, docker.DownloadFromContainerOptions{OutputStream: &out, Path: "/tmp/f"}))
	Same(Must(tar.NewReader(&out).Next()).Name, "f")
	found := false
	for _, change := range Must(c.ContainerChanges(box.ID)) {
		found = found || change.Path == "/tmp/f" && change.Kind == docker.ChangeAdd
	}
	Same(found, true)
	out.Reset()
	OK(c.ExportContainer(docker.ExportContainerOptions{ID: box.ID, OutputStream: &out}))
	Has(out.String(), "tmp/f")
}

func images(c *docker.Client) {
	box := start(c, "", nil, "sleep", "1000")
	defer remove(c, box)
	i := Must(c.CommitContainer(docker.CommitContainerOptions{Container: box.ID, Repository: "conformance/fsouza", Tag: "a", Message: "a word"}))
	OK(c.TagImage("conformance/fsouza:a", docker.TagImageOptions{Repo: "conformance/fsouza", Tag: "b"}))
	list := Must(c.ListImages(docker.ListImagesOptions{Filters: map[string][]string{"reference": {"conformance/fsouza"}}}))
	Same(len(list), 1)
	Same(list[0].ID, i.ID)
	Same(Must(c.ImageHistory("conformance/fsouza:b"))[0].Comment, "a word")
	var saved bytes.Buffer
	OK(c.ExportImage(docker.ExportImageOptions{Name: "conformance/fsouza:a", OutputStream: &saved}))
	OK(c.RemoveImage("conformance/fsouza:a"))
	OK(c.RemoveImage("conformance/fsouza:b"))
	_, err := c.InspectImage("conformance/fsouza:a")
	Same(err == docker.ErrNoSuchImage, true)
	OK(c.LoadImage(docker.LoadImageOptions{InputStream: &saved}))
	Same(Must(c.InspectImage("conformance/fsouza:a")).ID, i.ID)
	OK(c.RemoveImage("conformance/fsouza:a"))
	Refused(c.PullImage(docker.PullImageOptions{Repository: "127.0.0.1:1/nosuch", Tag: "x"}, docker.AuthConfiguration{}), "connection refused")
}

func networks(c *docker.Client) {
	box := start(c, "fs-net", nil, "sleep", "1000")
	defer remove(c, box)
	n := Must(c.CreateNetwork(docker.CreateNetworkOptions{Name: "fs-net", Labels: labels, Driver: "bridge"}))
	OK(c.ConnectNetwork(n.ID, docker.NetworkConnectionOptions{Container: box.ID, EndpointConfig: &docker.EndpointConfig{Aliases: []string{"other"}}}))
	Same(Must(c.NetworkInfo(n.ID)).Containers[box.ID].Name, "fs-net")
	Same(len(Must(c.FilteredListNetworks(docker.NetworkFilterOpts{"label": {"conformance=fsouza": true}}))), 1)
	OK(c.DisconnectNetwork(n.ID, docker.NetworkConnectionOptions{Container: box.ID}))
	OK(c.RemoveNetwork(n.ID))
	_, gone := c.RemoveNetwork(n.ID).(*docker.NoSuchNetwork)
	Same(gone, true)
}

func volumes(c *docker.Client) {
	v := Must(c.CreateVolume(docker.CreateVolumeOptions{Name: "fs-volume", Labels: labels}))
	box := start(c, "", &docker.HostConfig{Binds: []string{"fs-volume:/v"}}, "sleep", "1000")
	Same(c.RemoveVolumeWithOptions(docker.RemoveVolumeOptions{Name: v.Name}) == docker.ErrVolumeInUse, true)
	remove(c, box)
	Same(len(Must(c.ListVolumes(docker.ListVolumesOptions{Filters: mine}))), 1)
	Same(Must(c.InspectVolume(v.Name)).Driver, "local")
	OK(c.RemoveVolumeWithOptions(docker.RemoveVolumeOptions{Name: v.Name}))
	Must(c.PruneVolumes(docker.PruneVolumesOptions{Filters: mine}))
}

func events(c *docker.Client) {
	heard := make(chan *docker.APIEvents, 100)
	OK(c.AddEventListenerWithOptions(docker.EventsOptions{Filters: map[string][]string{"label": {"conformance=fsouza"}, "type": {"container"}}}, heard))
	box := start(c, "fs-events", nil, "true")
	Same(Must(c.WaitContainer(box.ID)), 0)
	remove(c, box)
	var seen []string
	for e := range heard {
		seen = append(seen, e.Action)
		if e.Action == "destroy" {
			break
		}
	}
	Same(strings.Join(seen, " "), "create start die destroy")
	OK(c.RemoveEventListener(heard))
}

func prune(c *docker.Client) {
	box := start(c, "", nil, "true")
	Must(c.WaitContainer(box.ID))
	got := Must(c.PruneContainers(docker.PruneContainersOptions{Filters: mine}))
	Same(len(got.ContainersDeleted), 1)
	Same(got.ContainersDeleted[0], box.ID)
}
