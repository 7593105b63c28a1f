package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"lade/internal/image/imagetest"
	"lade/test/harness"
)

// The states of the model. A container that nobody stops runs: its command is
// sleep.
const (
	none    = "none"
	created = "created"
	running = "running"
	paused  = "paused"
	exited  = "exited"
	there   = "there" // of volumes and images
)

// object is something that the API was asked to make.
type object struct {
	kind, name string
	state      string
	pid        int  // while running
	auto       bool // container: removes itself
	// doomed: a request to end it had no answer, and may still take effect.
	doomed bool
}

// player makes requests and knows what must be the outcome: what was
// acknowledged holds, whoever is killed; what failed did or did not happen.
// Its names are its own, so that players can play at the same time.
type player struct {
	t       *testing.T
	e       *harness.Engine
	c       *client.Client
	rnd     *rand.Rand
	prefix  string
	rootfs  []byte
	objects map[string]*object
	history []string
	mounts  []mount.Mount // of every container, besides the volume
	// annotations are of every container.
	annotations map[string]string
	// revive is called when a request failed because of who was killed.
	revive func()
}

func newPlayer(t *testing.T, e *harness.Engine, prefix string, seed uint64) *player {
	return &player{
		t: t, e: e, c: api(t, e), rnd: rand.New(rand.NewPCG(seed, 7)), prefix: prefix, rootfs: e.Rootfs(),
		objects: map[string]*object{}, revive: func() {},
	}
}

// wrong fails the test and shows what led there.
func (p *player) wrong(format string, a ...any) {
	p.t.Helper()
	last := p.history[max(0, len(p.history)-25):]
	p.t.Errorf("%s: %s\n%s", p.prefix, fmt.Sprintf(format, a...), strings.Join(last, "\n"))
}

func (p *player) note(format string, a ...any) {
	p.history = append(p.history, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, a...))
}

func (p *player) object(kind, name string) *object {
	name = p.prefix + name
	if kind == "image" {
		name = "lade-test/" + name + ":latest"
	}
	if p.objects[kind+name] == nil {
		p.objects[kind+name] = &object{kind: kind, name: name, state: none}
	}
	return p.objects[kind+name]
}

// do makes a request that leads from the object's state to another. If it
// fails for no fault of the request's, any of the states between is right.
func (p *player) do(o *object, what, to string, between []string, f func(ctx context.Context) error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	err := f(ctx)
	p.note("%s %s %s (%s→%s): %v", what, o.kind, o.name, o.state, to, err)
	switch {
	case err == nil:
		o.doomed = false
		p.moved(o, to)
	case refused(err):
	case p.t.Context().Err() != nil:
	default:
		may := append([]string{o.state, to}, between...)
		p.revive()
		if slices.Contains([]string{"stop", "kill", "rm"}, what) {
			time.Sleep(time.Second) // what was sent to a process may still be on its way
		}
		p.look(o, may)
		// On a slow machine it may be on its way even longer: until the next
		// answer the container may end at any time.
		o.doomed = slices.Contains([]string{"stop", "kill", "restart"}, what) && o.state != exited
	}
}

// refused reports whether the engine said that the request cannot be.
func refused(err error) bool {
	return errdefs.IsNotFound(err) || errdefs.IsConflict(err) || errdefs.IsNotModified(err) || errdefs.IsInvalidArgument(err)
}

func (p *player) moved(o *object, to string) {
	o.state = to
	if to != running && to != paused {
		o.pid = 0
	}
}

// look asks what the state of an object is, and waits while it is none of
// those that may be.
func (p *player) look(o *object, may []string) {
	p.t.Helper()
	if o.doomed {
		may = append(slices.Clone(may), exited)
		if o.auto {
			may = append(may, none)
		}
	}
	var state string
	var pid int
	var err error
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		state, pid, err = p.ask(o)
		if err == nil && slices.Contains(may, state) {
			break
		}
		if err != nil {
			p.revive()
		}
		if time.Now().After(end) || err == nil && state == exited && !o.auto || p.t.Context().Err() != nil {
			p.wrong("%s %s is %q, want one of %q (%v)\n%s", o.kind, o.name, state, may, err, p.detail(o))
			break
		}
	}
	if o.pid != 0 && pid != 0 && pid != o.pid && slices.Contains([]string{running, paused}, o.state) {
		p.wrong("%s has process %d, had %d\n%s", o.name, pid, o.pid, p.detail(o))
	}
	p.note("look %s %s: %s", o.kind, o.name, state)
	p.moved(o, state)
	o.pid = pid
}

// detail is what the engine says of a container, for a failure.
func (p *player) detail(o *object) string {
	if o.kind != "container" {
		return ""
	}
	got, err := p.c.ContainerInspect(p.t.Context(), o.name, client.ContainerInspectOptions{})
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s %+v", got.Container.ID, *got.Container.State)
}

func (p *player) ask(o *object) (state string, pid int, err error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Second)
	defer cancel()
	switch o.kind {
	case "container":
		got, err := p.c.ContainerInspect(ctx, o.name, client.ContainerInspectOptions{})
		if errdefs.IsNotFound(err) {
			return none, 0, nil
		}
		if err != nil {
			return "", 0, err
		}
		return string(got.Container.State.Status), got.Container.State.Pid, nil
	case "volume":
		_, err = p.c.VolumeInspect(ctx, o.name, client.VolumeInspectOptions{})
	case "image":
		_, err = p.c.ImageInspect(ctx, o.name)
	case "secret":
		_, err = p.c.SecretInspect(ctx, o.name, client.SecretInspectOptions{})
	case "network":
		_, err = p.c.NetworkInspect(ctx, o.name, client.NetworkInspectOptions{})
	}
	if errdefs.IsNotFound(err) {
		return none, 0, nil
	}
	return there, 0, err
}

// check compares an object with the model.
func (p *player) check(o *object) {
	p.t.Helper()
	p.look(o, []string{o.state})
}

func (p *player) create(o *object, image, volume string) {
	binds := []string{}
	if volume != "" {
		binds = append(binds, volume+":/named")
	}
	p.do(o, "create", created, nil, func(ctx context.Context) error {
		_, err := p.c.ContainerCreate(ctx, client.ContainerCreateOptions{
			Name:       o.name,
			Config:     &container.Config{Image: image, Cmd: []string{"sleep", "100000"}, Volumes: map[string]struct{}{"/anonymous": {}}},
			HostConfig: &container.HostConfig{Binds: binds, Mounts: p.mounts, Annotations: p.annotations, AutoRemove: o.auto},
		})
		return err
	})
}

func (p *player) start(o *object) {
	before := o.state
	p.do(o, "start", running, nil, func(ctx context.Context) error {
		_, err := p.c.ContainerStart(ctx, o.name, client.ContainerStartOptions{})
		return err
	})
	if o.state == running && (before != running || o.pid == 0) {
		p.check(o)
	}
}

// ended is the state after the end of a container.
func (o *object) ended() string {
	switch {
	case o.state != running && o.state != paused:
		return o.state
	case o.auto:
		return none
	}
	return exited
}

func (p *player) stop(o *object) {
	zero := 0
	p.do(o, "stop", o.ended(), []string{running, exited}, func(ctx context.Context) error {
		_, err := p.c.ContainerStop(ctx, o.name, client.ContainerStopOptions{Timeout: &zero})
		return err
	})
	if o.auto {
		p.check(o)
	}
}

// restart stops and starts a container; one that removes itself is there
// afterwards, unless the daemon has ended in between.
func (p *player) restart(o *object) {
	zero := 0
	ended := o.ended()
	o.pid = 0
	p.do(o, "restart", running, []string{ended}, func(ctx context.Context) error {
		_, err := p.c.ContainerRestart(ctx, o.name, client.ContainerRestartOptions{Timeout: &zero})
		return err
	})
	p.check(o)
}

func (p *player) kill(o *object) {
	p.do(o, "kill", o.ended(), []string{exited}, func(ctx context.Context) error {
		_, err := p.c.ContainerKill(ctx, o.name, client.ContainerKillOptions{Signal: "KILL"})
		return err
	})
	if o.auto {
		p.check(o)
	}
}

// limit changes a container's network rates, which only our client can ask for.
func (p *player) limit(o *object) {
	p.do(o, "limit", o.state, nil, func(context.Context) error {
		return p.ours("update", "--net-rate-in=50mbit", "--net-rate-out=50mbit", o.name)
	})
}

func (p *player) pause(o *object) {
	to := o.state
	if o.state == running {
		to = paused
	}
	p.do(o, "pause", to, nil, func(ctx context.Context) error {
		_, err := p.c.ContainerPause(ctx, o.name, client.ContainerPauseOptions{})
		return err
	})
}

func (p *player) unpause(o *object) {
	to := o.state
	if o.state == paused {
		to = running
	}
	p.do(o, "unpause", to, nil, func(ctx context.Context) error {
		_, err := p.c.ContainerUnpause(ctx, o.name, client.ContainerUnpauseOptions{})
		return err
	})
}

func (p *player) remove(o *object, force bool) {
	p.do(o, "rm", none, []string{exited}, func(ctx context.Context) error {
		_, err := p.c.ContainerRemove(ctx, o.name, client.ContainerRemoveOptions{Force: force, RemoveVolumes: true})
		return err
	})
}

// commit makes an image of a container, which stands still meanwhile and goes on
// whatever becomes of the image.
func (p *player) commit(o, img *object) {
	p.do(img, "commit", there, nil, func(ctx context.Context) error {
		_, err := p.c.ContainerCommit(ctx, o.name, client.ContainerCommitOptions{Reference: img.name})
		return err
	})
	p.check(o)
}

// ours runs a command of our client's that Docker's has not.
func (p *player) ours(args ...string) error {
	out, err := p.e.Command("lade", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (p *player) cloneVolume(v, w *object) {
	p.do(w, "clone", there, nil, func(context.Context) error { return p.ours("volume", "clone", v.name, w.name) })
}

// renameVolume gives v the name of w, which does not exist: whatever happens, one
// of them is there afterwards.
func (p *player) renameVolume(v, w *object) {
	if v.state != there {
		return
	}
	err := p.ours("volume", "rename", v.name, w.name)
	p.note("rename volume %s to %s: %v", v.name, w.name, err)
	if err != nil {
		p.revive()
		p.look(v, []string{there, none})
	} else {
		p.moved(v, none)
		p.check(v)
	}
	if v.state == none {
		p.moved(w, there)
	}
	p.check(w)
}

// rename gives o the name of another object that does not exist.
func (p *player) rename(o, to *object) {
	if o.state == none || to.state != none {
		return
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	_, err := p.c.ContainerRename(ctx, o.name, client.ContainerRenameOptions{NewName: to.name})
	p.note("rename %s to %s: %v", o.name, to.name, err)
	if err != nil && refused(err) {
		return
	}
	was := *o
	if err != nil {
		p.revive()
		p.look(o, []string{was.state, none})
	}
	if err == nil || o.state == none {
		to.state, to.pid, to.auto = was.state, was.pid, was.auto
		p.moved(o, none)
		p.check(o)
	}
	p.check(to)
}

// exec runs a command; what it does not return when somebody is killed is not
// promised.
func (p *player) exec(o *object) {
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	code, err := func() (int, error) {
		x, err := p.c.ExecCreate(ctx, o.name, client.ExecCreateOptions{AttachStdout: true, Cmd: []string{"sh", "-c", "echo hi; exit 3"}})
		if err != nil {
			return 0, err
		}
		s, err := p.c.ExecAttach(ctx, x.ID, client.ExecAttachOptions{})
		if err != nil {
			return 0, err
		}
		defer s.Close()
		if _, err := io.Copy(io.Discard, s.Reader); err != nil {
			return 0, err
		}
		got, err := p.c.ExecInspect(ctx, x.ID, client.ExecInspectOptions{})
		if err == nil && got.Running {
			err = errors.New("it runs")
		}
		return got.ExitCode, err
	}()
	p.note("exec %s: %d, %v", o.name, code, err)
	if err == nil && code != 3 && code != 255 && code != 137 && code != 126 {
		p.wrong("the exit code of an exec is %d", code)
	}
	if err != nil && !refused(err) {
		p.revive()
	}
	p.check(o)
}

func (p *player) makeVolume(o *object) {
	p.do(o, "create", there, nil, func(ctx context.Context) error {
		_, err := p.c.VolumeCreate(ctx, client.VolumeCreateOptions{Name: o.name})
		return err
	})
}

func (p *player) removeVolume(o *object) {
	p.do(o, "rm", none, nil, func(ctx context.Context) error {
		_, err := p.c.VolumeRemove(ctx, o.name, client.VolumeRemoveOptions{})
		return err
	})
}

func (p *player) makeNetwork(o *object) {
	p.do(o, "create", there, nil, func(ctx context.Context) error {
		_, err := p.c.NetworkCreate(ctx, o.name, client.NetworkCreateOptions{})
		return err
	})
}

func (p *player) removeNetwork(o *object) {
	p.do(o, "rm", none, nil, func(ctx context.Context) error {
		_, err := p.c.NetworkRemove(ctx, o.name, client.NetworkRemoveOptions{})
		return err
	})
}

// join connects a container to a further network, and leave takes it out; after a
// request without answer it may be in it or not.
func (p *player) join(o, network *object) {
	p.do(o, "connect", o.state, nil, func(ctx context.Context) error {
		_, err := p.c.NetworkConnect(ctx, network.name, client.NetworkConnectOptions{Container: o.name})
		return err
	})
}

func (p *player) leave(o, network *object) {
	p.do(o, "disconnect", o.state, nil, func(ctx context.Context) error {
		_, err := p.c.NetworkDisconnect(ctx, network.name, client.NetworkDisconnectOptions{Container: o.name})
		if err != nil && strings.Contains(err.Error(), "is not connected to network") {
			return nil
		}
		return err
	})
}

// loadImage loads an image of two layers, which are unpacked at the same time.
// It is nobody else's: an image that others have can only be removed after their
// containers.
func (p *player) loadImage(o *object) {
	archive := imagetest.DockerArchive(p.t, imagetest.Build(p.t, imagetest.Spec{
		Names: []string{o.name}, Layers: [][]byte{p.rootfs, imagetest.Tar(p.t, imagetest.File{Name: "loaded", Body: o.name})},
	}))
	p.do(o, "load", there, nil, func(ctx context.Context) error {
		s, err := p.c.ImageLoad(ctx, bytes.NewReader(archive))
		if err != nil {
			return err
		}
		defer s.Close()
		out, err := io.ReadAll(s)
		if err == nil && (!bytes.Contains(out, []byte("Loaded image")) || bytes.Contains(out, []byte("rror"))) {
			err = fmt.Errorf("load: %s", out)
		}
		return err
	})
}

func (p *player) removeImage(o *object) {
	p.do(o, "rm", none, nil, func(ctx context.Context) error {
		_, err := p.c.ImageRemove(ctx, o.name, client.ImageRemoveOptions{})
		return err
	})
}

// play makes one random request.
func (p *player) play(base string) {
	a := p.object("container", []string{"a", "b", "c"}[p.rnd.IntN(3)])
	b := p.object("container", []string{"a", "b", "c"}[p.rnd.IntN(3)])
	v := p.object("volume", []string{"v", "w"}[p.rnd.IntN(2)])
	i := p.object("image", "i")
	switch p.rnd.IntN(20) {
	case 0, 1, 2:
		if a.state != none {
			p.check(a)
			return
		}
		image, volume := base, ""
		if i.state == there {
			image = i.name
		}
		if v.state == there {
			volume = v.name
		}
		a.auto = p.rnd.IntN(4) == 0
		p.create(a, image, volume)
	case 3, 4, 5, 6:
		if a.state == created || a.state == exited || a.state == running {
			p.start(a)
		}
	case 7:
		p.stop(a)
	case 8:
		p.kill(a)
	case 9:
		p.pause(a)
	case 10, 11:
		if a.state == paused || p.rnd.IntN(10) == 0 {
			p.unpause(a)
		}
	case 12:
		p.remove(a, p.rnd.IntN(2) == 0)
	case 13:
		p.rename(a, b)
	case 14:
		if a.state == running {
			p.exec(a)
		}
	case 15:
		p.makeVolume(v)
	case 16:
		p.removeVolume(v)
	case 17:
		if i.state == none { // else the one before is left without a name
			p.loadImage(i)
		}
	case 18:
		p.removeImage(i)
	case 19:
		for _, o := range p.objects {
			p.check(o)
		}
	}
}

// clean checks and removes everything.
func (p *player) clean() {
	order := map[string]int{"container": 0, "volume": 1, "image": 2, "network": 3, "secret": 4}
	all := slices.SortedFunc(maps.Values(p.objects), func(a, b *object) int { return order[a.kind] - order[b.kind] })
	for _, o := range all {
		p.check(o)
		if o.state == none {
			continue
		}
		switch o.kind {
		case "container":
			p.remove(o, true)
		case "volume":
			p.removeVolume(o)
		case "image":
			p.removeImage(o)
		case "network":
			p.removeNetwork(o)
		case "secret":
			p.removeSecret(o)
		}
		if o.state != none {
			p.wrong("%s %s cannot be removed: %s", o.kind, o.name, o.state)
		}
		p.check(o)
	}
}
