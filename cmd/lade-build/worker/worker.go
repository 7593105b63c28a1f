package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/diff/walking"
	"github.com/containerd/containerd/v2/plugins/snapshots/native"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"
	"github.com/containerd/platforms"
	cachemetadata "github.com/moby/buildkit/cache/metadata"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/executor/oci"
	"github.com/moby/buildkit/executor/resources"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/buildkit/executor/runcexecutor"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/session"
	containerdsnapshot "github.com/moby/buildkit/snapshot/containerd"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/source/containerimage"
	"github.com/moby/buildkit/util/db/boltutil"
	"github.com/moby/buildkit/util/leaseutil"
	"github.com/moby/buildkit/util/network"
	"github.com/moby/buildkit/worker/base"
	"github.com/moby/buildkit/worker/label"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sync/semaphore"

	"lade/internal/build"
)

// names of BuildKit's, by which it finds its own data again.
const (
	space       = "buildkit"
	overlayName = "overlayfs"
	nativeName  = "native"
)

// parallel is how many steps run at a time: they are programs of users, who
// expect of each that it gets a processor.
const parallel = 8

// Worker is BuildKit's worker, with images, layers and networks of laded's.
type Worker struct {
	*base.Worker
	images *imageSource
	loans  *borrowed
	host   *build.Host
	steps  *counted
}

// counted is an executor whose steps can be waited for.
type counted struct {
	executor.Executor
	work sync.WaitGroup
}

// Run implements executor.Executor.
func (c *counted) Run(ctx context.Context, id string, rootfs executor.Mount, mounts []executor.Mount, process executor.ProcessInfo, started chan<- struct{}) (resourcestypes.Recorder, error) {
	c.work.Add(1)
	defer c.work.Done()
	return c.Executor.Run(ctx, id, rootfs, mounts, process, started)
}

// Wait waits until no step runs.
func (w *Worker) Wait() { w.steps.work.Wait() }

// New opens the cache in c.Root. The caller closes the worker. It waits for
// another lade-build that has the cache.
func New(ctx context.Context, c build.Config, host *build.Host, hosts docker.RegistryHosts) (*Worker, error) {
	if err := os.MkdirAll(c.Root, 0o700); err != nil {
		return nil, err
	}
	s, name, err := openSnapshots(filepath.Join(c.Root, "snapshots"))
	if err != nil {
		return nil, err
	}
	blobs, err := local.NewStore(filepath.Join(c.Root, "content"))
	if err != nil {
		return nil, err
	}
	db, err := boltutil.Open(filepath.Join(c.Root, "containerd.db"), 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType, NoFreelistSync: true})
	if err != nil {
		return nil, err
	}
	mdb := metadata.NewDB(db, blobs, map[string]snapshots.Snapshotter{name: s})
	if err := mdb.Init(ctx); err != nil {
		return nil, err
	}
	loans, err := openBorrowed(filepath.Join(c.Root, "borrowed.json"), c.Blobs, host, mdb.ContentStore())
	if err != nil {
		return nil, err
	}
	store := containerdsnapshot.NewContentStore(loans, space)
	md, err := cachemetadata.NewStore(filepath.Join(c.Root, "metadata.db"))
	if err != nil {
		return nil, err
	}
	monitor, err := resources.NewMonitor()
	if err != nil {
		return nil, err
	}
	networks := map[pb.NetMode]network.Provider{
		pb.NetMode_UNSET: bridge{host}, pb.NetMode_HOST: network.NewHostProvider(), pb.NetMode_NONE: network.NewNoneProvider(),
	}
	exec, err := newExecutor(c, networks, monitor)
	if err != nil {
		return nil, err
	}
	steps := &counted{Executor: exec}
	id, err := base.ID(c.Root)
	if err != nil {
		return nil, err
	}
	a := applier{apply.NewFileSystemApplier(store), loans}
	if name != overlayName || !c.Links {
		loans.noLinks = true
	}
	w, err := base.NewWorker(ctx, base.WorkerOpt{
		ID:   id,
		Root: c.Root,
		Labels: map[string]string{
			label.Executor: "oci", label.Snapshotter: name, label.Network: "bridge", label.OCIProcessMode: oci.ProcessSandbox.String(),
		},
		Platforms:        []ocispec.Platform{platforms.Normalize(platforms.DefaultSpec())},
		BuildkitVersion:  client.BuildkitVersion{Package: "lade", Version: c.Version},
		NetworkProviders: networks,
		Executor:         steps,
		Snapshotter:      containerdsnapshot.NewSnapshotter(name, mdb.Snapshotter(name), space, nil),
		ContentStore:     store,
		Applier:          &a,
		Differ:           walking.NewWalkingDiff(store),
		RegistryHosts:    hosts,
		LeaseManager:     leaseutil.WithNamespace(metadata.NewLeaseManager(mdb), space),
		GarbageCollect:   mdb.GarbageCollect,
		ParallelismSem:   semaphore.NewWeighted(parallel),
		MetadataStore:    md,
		ContentMetadata:  db,
		MountPoolRoot:    filepath.Join(c.Root, "cachemounts"),
		ResourceMonitor:  monitor,
	})
	if err != nil {
		return nil, err
	}
	out := &Worker{w, &imageSource{w.ImageSource, host, store, loans, w.CacheMgr}, loans, host, steps}
	w.SourceManager.Register(out.images)
	return out, loans.giveBack(ctx, w.LeaseManager())
}

// openSnapshots opens the directory of snapshots, of overlays where the file
// system can, else of copies.
func openSnapshots(dir string) (snapshots.Snapshotter, string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", err
	}
	if overlayutils.Supported(dir) == nil {
		s, err := overlay.NewSnapshotter(filepath.Join(dir, overlayName))
		return s, overlayName, err
	}
	s, err := native.NewSnapshotter(filepath.Join(dir, nativeName))
	return s, nativeName, err
}

// newExecutor returns what runs steps.
func newExecutor(c build.Config, networks map[pb.NetMode]network.Provider, m *resources.Monitor) (executor.Executor, error) {
	root := filepath.Join(c.Run, "steps")
	// What a lade-build that was killed has left; its mounts went with it.
	if err := os.RemoveAll(root); err != nil {
		return nil, err
	}
	return runcexecutor.New(runcexecutor.Opt{
		Root: root, CommandCandidates: []string{c.Runtime}, DefaultCgroupParent: c.CgroupParent, ProcessMode: oci.ProcessSandbox,
		ApparmorProfile: c.AppArmor, ResourceMonitor: m,
		DNS: &oci.DNSConfig{Nameservers: c.DNS, SearchDomains: c.DNSSearch, Options: c.DNSOptions},
	}, networks)
}

// ResolveSourceMetadata implements worker.Worker.
func (w *Worker) ResolveSourceMetadata(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt, sm *session.Manager, job solver.JobContext) (*sourceresolver.MetaResponse, error) {
	var p *ocispec.Platform
	if opt.ImageOpt != nil {
		p = opt.ImageOpt.Platform
	}
	var platform *pb.Platform
	if p != nil {
		platform = &pb.Platform{Architecture: p.Architecture, OS: p.OS, Variant: p.Variant, OSVersion: p.OSVersion}
	}
	id, err := w.ParseSource(op, platform)
	if err != nil {
		return nil, err
	}
	i, ok := id.(*containerimage.ImageIdentifier)
	if !ok {
		return w.Worker.ResolveSourceMetadata(ctx, op, opt, sm, job)
	}
	if opt.SourcePolicies != nil {
		return nil, errors.New("source policies can not be set for worker")
	}
	o := opt.ImageOpt
	if o == nil {
		o = &sourceresolver.ResolveImageOpt{}
	}
	var g session.Group
	if job != nil {
		g = job.Session()
	}
	resp, err := w.images.metadata(ctx, i, o, sm, g)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", i.Reference, err)
	}
	return &sourceresolver.MetaResponse{Op: op, Image: resp}, nil
}

// Exporter implements worker.Worker.
func (w *Worker) Exporter(name string, sm *session.Manager) (exporter.Exporter, error) {
	if name != exporterMoby && name != exporterImage {
		return w.Worker.Exporter(name, sm)
	}
	inner, err := w.Worker.Exporter(client.ExporterImage, sm)
	if err != nil {
		return nil, err
	}
	return &toEngine{inner, w.host, w.ContentStore(), w.loans}, nil
}

// GiveBack tells laded what of its the cache does not use any more.
func (w *Worker) GiveBack(ctx context.Context) error {
	return w.loans.giveBack(ctx, w.LeaseManager())
}
