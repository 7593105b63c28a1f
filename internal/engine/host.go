package engine

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"lade/internal/digest"
	"lade/internal/engine/container"
	"lade/internal/engine/health"
	"lade/internal/engine/logdriver"
	"lade/internal/engine/rootfs"
	"lade/internal/errdefs"
	eventlog "lade/internal/events"
	"lade/internal/failpoint"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/idmap"
	"lade/internal/linux/selinux"
	"lade/internal/network"
	"lade/internal/secret"
	"lade/internal/store"
	"lade/internal/volume"
)

// host is what containers live on, and what the use cases share. It implements
// container.Host, and the interfaces that the packages below this one have of
// it.
type host struct {
	Config
	*rootfs.Mounter
	log        *slog.Logger
	volumes    *volume.Volumes
	secrets    *secret.Store
	events     eventlog.Log
	containers *index
	execs      *execs
	ranges     *idRanges
	levels     selinux.Levels
	filters    *filterCache
	sup        *link
	set        atomic.Pointer[Settings]
	health     *health.Monitor
	names      *nameService
	had        lastAddresses
	linked     atomic.Bool // some container has links

	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	work   sync.WaitGroup
}

var _ container.Host = (*host)(nil)

// newHost returns a host without containers, whose work goes on after ctx ends.
func newHost(ctx context.Context, c Config) *host {
	e := &host{Config: c, log: c.Logger, volumes: c.Volumes, secrets: secret.Open(c.Store, filepath.Join(c.Root, secretKey), c.Logger), containers: newIndex(), execs: newExecs(), filters: newFilterCache()}
	e.set.Store(&c.Settings)
	e.Mounter = rootfs.New(rootfs.Config{
		Dir: filepath.Join(c.Root, "mounts"), Kernel: c.Kernel, Images: c.Images, Snapshots: c.Snapshots, Volumes: c.Volumes, Secrets: e.secrets, Logger: c.Logger,
		Pid: e.pid,
		MakeUser: func(ctx context.Context, ids idmap.Map) (*os.File, error) {
			user, _, err := e.sup.makeUser(ctx, ids, false)
			return user, err
		},
	})
	e.names = newNameService(e)
	e.ctx, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return e
}

// settings returns what holds now. A use case that reads several of them keeps
// one answer.
func (e *host) settings() *Settings { return e.set.Load() }

// Find returns the container of that name, id, or unique prefix of an id.
// Errors: NotFound, Invalid for an ambiguous prefix.
func (e *host) Find(name string) (*container.Actor, error) { return e.containers.find(name) }

// All returns every container, newest first.
func (e *host) All() []*container.Actor { return e.containers.all() }

// pid returns the first process of the container of that id; 0: it has none.
func (e *host) pid(id string) int {
	a, err := e.containers.find(id)
	if err != nil {
		return 0
	}
	return a.View().Pid
}

// Group opens the control group of a running container. Errors: NotFound.
func (e *host) Group(r *container.Record) (*cgroup.Group, error) {
	return e.Cgroups.Open(e.cgroupPath(r))
}

// dir returns the directory of a container's own files.
func (e *host) dir(id string) string { return filepath.Join(e.Root, "containers", id) }

// Save implements container.Host.
func (e *host) Save(ctx context.Context, r *container.Record, durable bool) error {
	raw, err := r.Encode()
	if err != nil {
		return err
	}
	var b store.Batch
	b.Put(bucket, r.ID, raw)
	if durable {
		return e.Store.Commit(ctx, &b)
	}
	return e.Store.Append(&b)
}

// Erase implements container.Host.
func (e *host) Erase(ctx context.Context, r *container.Record, volumes bool) error {
	var b store.Batch
	b.Delete(bucket, r.ID)
	undo := func() {}
	if volumes {
		var names []string
		for _, m := range r.Mounts {
			if m.Anonymous {
				names = append(names, m.Name)
			}
		}
		undo = e.volumes.Erase(&b, r.ID, names)
	}
	var err error
	if r.HostConfig.AutoRemove { // if a power cut brings it back, Resume removes it
		err = e.Store.Append(&b)
	} else {
		err = e.Store.Commit(ctx, &b)
	}
	if err != nil {
		undo()
	}
	failpoint.Hit("engine.erased")
	return err
}

// Publish implements container.Host.
func (e *host) Publish(r *container.Record, action events.Action, more map[string]string) {
	a := r.Attributes()
	for k, v := range more {
		a[k] = v
	}
	e.events.Publish(events.ContainerEventType, action, r.ID, a)
}

func (e *host) publishVolume(action events.Action, name string, attributes map[string]string) {
	e.events.Publish(events.VolumeEventType, action, name, attributes)
}

// PublishImage tells the event log what happened to an image.
func (e *host) PublishImage(action events.Action, id, name string) {
	e.events.Publish(events.ImageEventType, action, id, map[string]string{"name": name})
}

func (e *host) publishNetwork(action events.Action, r *container.Record, ep *network.Endpoint) {
	e.events.Publish(events.NetworkEventType, action, ep.NetworkID, map[string]string{"container": r.ID, "name": ep.NetworkName, "type": ep.Driver})
}

// Gone implements container.Host.
func (e *host) Gone(r *container.Record) {
	e.Images.Use(digest.Digest(r.ImageID)) // until now
	e.containers.remove(r.ID)
	e.ranges.free(r.ID)
	e.unlabel(r)
	e.secrets.Release(r.ID)
	e.execs.forget(r.ID)
	e.had.forget(r.ID)
}

// Discard implements container.Host: everything that Launch and Create made.
func (e *host) Discard(ctx context.Context, r *container.Record) error {
	if err := e.Snapshots.Remove(ctx, r.ID); err != nil && errdefs.KindOf(err) != errdefs.NotFound {
		return err
	}
	e.volumes.Release(r.ID)
	for _, m := range r.Mounts {
		if m.Anonymous && e.volumes.Clear(ctx, m.Name) {
			e.publishVolume("destroy", m.Name, map[string]string{"driver": m.Driver})
		}
	}
	return e.removeDir(r)
}

// makeDir makes the directory of a container's own files.
func (e *host) makeDir(id string) error {
	dir := e.dir(id)
	err := os.Mkdir(dir, 0o710)
	if errors.Is(err, os.ErrNotExist) { // the first container
		err = os.MkdirAll(dir, 0o710)
	}
	return err
}

// removeDir deletes it: first the files that every container has.
func (e *host) removeDir(r *container.Record) error {
	dir := e.dir(r.ID)
	log, _, _ := logdriver.File(r.HostConfig.LogConfig, r.ID)
	for _, name := range []string{log, "hosts", "hostname", "resolv.conf"} {
		// What fails here is tried again below.
		_ = unix.Unlink(filepath.Join(dir, name))
	}
	if unix.Rmdir(dir) == nil {
		return nil
	}
	return os.RemoveAll(dir) // also when it is gone, which is no error
}

// Release implements container.Host.
func (e *host) Release(r *container.Record) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), cleanUp)
	defer cancel()
	e.sup.drop(r.ID, "")
	eps := e.Networks.Endpoints(r.ID)
	e.had.keep(r.ID, eps)
	if err := e.Networks.Release(ctx, r.ID); err != nil {
		e.log.Warn("the network connection could not be given back", "container", r.ID, "error", err)
	}
	for _, ep := range eps {
		e.publishNetwork(events.ActionDisconnect, r, ep)
	}
	e.ReleaseMounts(r)
	e.publishUnmounts(r)
}
