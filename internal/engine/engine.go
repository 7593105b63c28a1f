package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/moby/moby/api/types/build"
	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	apiimage "github.com/moby/moby/api/types/image"

	"lade/internal/builtin"
	"lade/internal/content"
	"lade/internal/engine/archive"
	"lade/internal/engine/builder"
	"lade/internal/engine/container"
	"lade/internal/engine/disk"
	"lade/internal/engine/health"
	"lade/internal/engine/prune"
	"lade/internal/engine/pull"
	"lade/internal/engine/secrets"
	"lade/internal/engine/spec"
	"lade/internal/engine/stats"
	"lade/internal/engine/top"
	"lade/internal/image"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/sys"
	"lade/internal/linux/systemd"
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
	IPCMode      string // "private" or "shareable"; "" is private
	CgroupnsMode string // "host" or "private"; "" is private, but host on version 1 with --privileged
	ShmSize      int64  // bytes; 0: 64 MiB
	Init         bool
	StopTimeout  int // seconds; 0: 10
	Ulimits      map[string]*apicontainer.Ulimit
	DNS          []string
	DNSSearch    []string
	DNSOptions   []string
	HostGateway  []netip.Addr // what host-gateway stands for; none: the default bridge's addresses
	// NetworkOptions are those that new networks get of a driver.
	NetworkOptions map[string]map[string]string
	Security       spec.SecurityDefaults
	// UsernsRemap is the user namespace of containers that ask for none, as in
	// dockerd's --userns-remap; "": the host's.
	UsernsRemap string
	// CDIDirs are where the Container Device Interface has its files; nil: it is
	// not there.
	CDIDirs     []string
	StorageSize int64 // bytes that a container's own files may take; 0: no limit
}

// Settings are what the operator may change while the engine runs. Nothing of
// them is changed after they were given.
type Settings struct {
	Defaults Defaults
	Runtimes Runtimes
	Labels   []string // of the daemon, for info
	Disk     disk.Policy
}

// Config is all that the engine is made of. The caller opened the parts and
// closes them after Close.
type Config struct {
	Root      string // data root, for containers/
	ExecRoot  string // for what must not outlive the machine
	Logger    *slog.Logger
	Build     Build
	Store     *store.Store
	Content   *content.Store
	Images    *image.Images
	Registry  *registry.Live
	Snapshots snapshot.Snapshotter
	// WhyStorage tells why it is this driver of storage, for info.
	WhyStorage string
	Networks   *network.Networks
	Volumes    *volume.Volumes
	Builtin    *builtin.Builtin
	Cgroups    *cgroup.Host
	Systemd    *systemd.Manager // nil: control groups are made directly
	Kernel     sys.Features
	Facts      spec.Facts
	Settings   Settings // the first; Reload changes them
	// LogRelay returns the socket of who sends logs over TLS, and sees to it that it
	// is there, now or soon.
	LogRelay func() string
	// Experimental is what info and version say of experimental features.
	Experimental bool
	// Connect connects with the supervisor, or starts one.
	Connect ConnectFunc
	// Builder are the programs that build images.
	Builder builder.Programs
}

// Engine is the whole of the use cases: one method per operation of the API,
// some of which are those of its parts. Its methods may be called at any time
// from New to Close.
type Engine struct {
	*host
	*viewer
	*archive.Copier
	*prune.Pruner
	*pull.Puller
	*stats.Sampler
	*top.Lister
	*disk.Collector
	*secrets.Keeper

	id      string
	builder *builder.Builder
}

// assemble makes an engine, which has no containers yet, of its parts.
func assemble(h *host) *Engine {
	copier := archive.New(h, h.Snapshots, h.Images)
	v := &viewer{h, copier}
	var e *Engine
	e = &Engine{
		host:    h,
		viewer:  v,
		Copier:  copier,
		Sampler: stats.New(h, h.Networks),
		Lister:  top.New(h),
		Keeper:  secrets.New(h.secrets, h.nameOf, h.events.Publish),
		Puller:  pull.New(pull.Config{Images: h.Images, Registry: h.Registry, Builtin: h.Builtin, Publish: h.PublishImage}),
		Pruner: prune.New(prune.Config{
			Containers: v, Images: h.Images, Snapshots: h.Snapshots, Volumes: h.volumes, Events: &h.events, Logger: h.log,
			Users: v.users, ImageSummary: func(i *image.Image) apiimage.Summary { return v.imageSummary(i, nil) }, Removed: v.deleted,
			VolumeRemove: h.VolumeRemove,
			BuildUsage:   func(ctx context.Context) ([]build.CacheRecord, error) { return e.builder.Usage(ctx) },
		}),
	}
	e.Collector = disk.New(disk.Config{
		Root: h.Root, Policy: func() disk.Policy { return h.settings().Disk }, Containers: h.All, Images: h.Images, Users: v.users,
		Size:        func(ctx context.Context, r *container.Record) (int64, error) { return copier.Changed(ctx, r.ID) },
		BuildUsage:  func(ctx context.Context) ([]build.CacheRecord, error) { return e.builder.Usage(ctx) },
		BuildRemove: func(ctx context.Context, id string) (int64, error) { return e.builder.Remove(ctx, id) },
		Removed:     func(r []image.Removed) { v.deleted(r) },
		Publish: func(a map[string]string) {
			h.events.Publish(events.DaemonEventType, events.ActionPrune, e.id, a)
		},
		Logger: h.log,
	})
	h.health = health.New(h.ctx, e.checkHealth)
	return e
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
	err := e.builder.Close()
	e.cancel()
	e.health.Wait()
	for _, a := range e.containers.all() {
		a.Join()
	}
	err = errors.Join(err, e.sup.close())
	e.work.Wait()
	err = errors.Join(err, e.Collector.Close())
	e.ranges.close()
	return errors.Join(err, e.events.Close())
}

// machineRestarted reports whether the machine was started again since an engine
// last had these records, and notes that this one has. A power cut may take the
// note, but then it does not say what is wrong.
//
// Source: /proc/sys/kernel/random/boot_id in random(4).
func machineRestarted(s *store.Store) (bool, error) {
	const key = "boot"
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return false, err
	}
	now, err := json.Marshal(strings.TrimSpace(string(id)))
	if err != nil {
		return false, err
	}
	before, known := s.Get("engine", key)
	if known && bytes.Equal(before, now) {
		return false, nil
	}
	var b store.Batch
	b.Put("engine", key, now)
	return known, s.Append(&b)
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
