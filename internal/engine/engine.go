package engine

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"lade/internal/builtin"
	"lade/internal/content"
	"lade/internal/engine/container"
	"lade/internal/engine/spec"
	"lade/internal/errdefs"
	eventlog "lade/internal/events"
	"lade/internal/failpoint"
	"lade/internal/image"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/sys"
	"lade/internal/network"
	"lade/internal/registry"
	"lade/internal/snapshot"
	"lade/internal/store"
	"lade/internal/volume"
)

const (
	bucket = store.Bucket("containers")
	// cleanUp bounds what is done after a failure, whose own context may have ended.
	cleanUp = 10 * time.Second
)

// Build names the program in info and version.
type Build struct {
	Version string
	Commit  string
	Time    time.Time
}

// Defaults are what a container gets that does not say otherwise.
type Defaults struct {
	LogDriver    string
	LogOptions   map[string]string
	CgroupParent string // "" is /lade
	ShmSize      int64  // bytes; 0: 64 MiB
	Init         bool
	StopTimeout  int // seconds; 0: 10
	Ulimits      map[string]*apicontainer.Ulimit
	DNS          []string
	DNSSearch    []string
	DNSOptions   []string
}

// Config is all that the engine is made of. The caller opened the parts and
// closes them after Close.
type Config struct {
	Root      string // data root, for containers/
	Logger    *slog.Logger
	Build     Build
	Store     *store.Store
	Content   *content.Store
	Images    *image.Images
	Registry  *registry.Client
	Snapshots snapshot.Snapshotter
	Networks  *network.Networks
	Volumes   *volume.Volumes
	Builtin   *builtin.Builtin
	Cgroups   *cgroup.Host
	Kernel    sys.Features
	Facts     spec.Facts
	Defaults  Defaults
	Labels    []string // of the daemon, for info
	// Connect connects with the supervisor, or starts one.
	Connect ConnectFunc
}

// Engine is the whole of the use cases. Its methods may be called at any time
// from New to Close.
type Engine struct {
	Config
	id         string
	log        *slog.Logger
	volumes    *volume.Volumes
	events     eventlog.Log
	containers *index
	execs      *execs
	filters    *filterCache
	sup        *link
	started    time.Time
	recovered  chan struct{} // closed when every container can be found

	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// dir returns the directory of a container's own files.
func (e *Engine) dir(id string) string { return filepath.Join(e.Root, "containers", id) }

// Save implements container.Host.
func (e *Engine) Save(ctx context.Context, r *container.Record, durable bool) error {
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
func (e *Engine) Erase(ctx context.Context, r *container.Record, volumes bool) error {
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
func (e *Engine) Publish(r *container.Record, action events.Action, more map[string]string) {
	a := r.Attributes()
	for k, v := range more {
		a[k] = v
	}
	e.events.Publish(events.ContainerEventType, action, r.ID, a)
}

func (e *Engine) publishVolume(action events.Action, name string, attributes map[string]string) {
	e.events.Publish(events.VolumeEventType, action, name, attributes)
}

func (e *Engine) publishImage(action events.Action, id, name string) {
	e.events.Publish(events.ImageEventType, action, id, map[string]string{"name": name})
}

func (e *Engine) publishNetwork(action events.Action, r *container.Record, ep *network.Endpoint) {
	kind := "bridge"
	if ep.NetworkName == "host" || ep.NetworkName == "none" {
		kind = map[string]string{"host": "host", "none": "null"}[ep.NetworkName]
	}
	e.events.Publish(events.NetworkEventType, action, ep.NetworkID, map[string]string{"container": r.ID, "name": ep.NetworkName, "type": kind})
}

// Gone implements container.Host.
func (e *Engine) Gone(r *container.Record) {
	e.containers.remove(r.ID)
	e.execs.forget(r.ID)
}

// Discard implements container.Host: everything that Launch and Create made.
func (e *Engine) Discard(ctx context.Context, r *container.Record) error {
	if err := e.Snapshots.Remove(ctx, r.ID); err != nil && errdefs.KindOf(err) != errdefs.NotFound {
		return err
	}
	e.volumes.Release(r.ID)
	for _, m := range r.Mounts {
		if m.Anonymous && e.volumes.Clear(m.Name) {
			e.publishVolume("destroy", m.Name, map[string]string{"driver": m.Driver})
		}
	}
	return e.removeDir(r)
}

// makeDir makes the directory of a container's own files.
func (e *Engine) makeDir(id string) error {
	dir := e.dir(id)
	err := os.Mkdir(dir, 0o710)
	if errors.Is(err, os.ErrNotExist) { // the first container
		err = os.MkdirAll(dir, 0o710)
	}
	return err
}

// removeDir deletes it: first the files that every container has.
func (e *Engine) removeDir(r *container.Record) error {
	dir := e.dir(r.ID)
	for _, name := range []string{r.LogFile(), "hosts", "hostname", "resolv.conf"} {
		// What fails here is tried again below.
		_ = unix.Unlink(filepath.Join(dir, name))
	}
	if unix.Rmdir(dir) == nil {
		return nil
	}
	return os.RemoveAll(dir) // also when it is gone, which is no error
}

// Release implements container.Host.
func (e *Engine) Release(r *container.Record) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), cleanUp)
	defer cancel()
	e.sup.drop(r.ID, "")
	if ep, ok := e.Networks.Endpoint(r.ID); ok {
		if err := e.Networks.Release(ctx, r.ID); err != nil {
			e.log.Warn("the network connection could not be given back", "container", r.ID, "error", err)
		}
		e.publishNetwork(events.ActionDisconnect, r, ep)
	}
	e.publishUnmounts(r)
}

// Running counts the containers that have a process.
func (e *Engine) Running() int {
	n := 0
	for _, a := range e.containers.all() {
		if s := a.View().State; s.Alive() || s == container.Starting {
			n++
		}
	}
	return n
}

// Close ends the engine's own work. Containers go on.
func (e *Engine) Close() error {
	e.cancel()
	for _, a := range e.containers.all() {
		a.Join()
	}
	err := e.sup.close()
	e.work.Wait()
	return err
}

// engineID returns the stable id of this engine, made at its first start.
func engineID(ctx context.Context, s *store.Store, fresh string) (string, error) {
	const key = "id"
	if raw, ok := s.Get("engine", key); ok {
		var id string
		if err := json.Unmarshal(raw, &id); err == nil {
			return id, nil
		}
	}
	raw, err := json.Marshal(fresh)
	if err != nil {
		return "", err
	}
	var b store.Batch
	b.Put("engine", key, raw)
	return fresh, s.Commit(ctx, &b)
}
