package server

import (
	"context"
	"io"
	"iter"
	"net"
	"net/url"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/engine"
	"lade/internal/engine/archive"
	"lade/internal/engine/disk"
	"lade/internal/engine/prune"
	"lade/internal/engine/pull"
	"lade/internal/engine/stats"
	"lade/internal/filters"
)

// Containers is what the server needs of the engine for containers. A name may
// be a name, an id, or a unique prefix of an id.
type Containers interface {
	ContainerCreate(ctx context.Context, o engine.CreateOptions) (container.CreateResponse, error)
	ContainerStart(ctx context.Context, name string) error
	ContainerStop(ctx context.Context, name string, o engine.StopOptions) error
	ContainerRestart(ctx context.Context, name string, o engine.StopOptions) error
	ContainerKill(ctx context.Context, name, signal string) error
	ContainerPause(ctx context.Context, name string) error
	ContainerUnpause(ctx context.Context, name string) error
	ContainerRename(ctx context.Context, name, to string) error
	ContainerUpdate(ctx context.Context, name string, u engine.UpdateConfig) (engine.UpdateResponse, error)
	ContainerRemove(ctx context.Context, name string, o engine.RemoveOptions) error
	ContainerPrune(ctx context.Context, f filters.Args) (container.PruneReport, error)

	ContainerInspect(ctx context.Context, name string, size bool) (*engine.InspectResponse, error)
	ContainerList(ctx context.Context, o engine.ListOptions) ([]*engine.Listed, error)
	ContainerTop(ctx context.Context, name string, psArgs []string) (container.TopResponse, error)
	ContainerStats(ctx context.Context, name string, o stats.Options) (iter.Seq2[*stats.Sample, error], error)
	ContainerLogs(ctx context.Context, name string, o engine.LogsOptions) (engine.LogStream, error)
	ContainerLogsClear(ctx context.Context, name string) error
	ContainerChanges(ctx context.Context, name string) ([]container.FilesystemChange, error)
	// ContainerWait returns when waiting has begun; the channel then delivers
	// one response. An unknown container or condition is an error at once.
	ContainerWait(ctx context.Context, name string, until container.WaitCondition) (<-chan container.WaitResponse, error)
	ContainerAttach(ctx context.Context, name string, o engine.AttachOptions) error
	ContainerResize(ctx context.Context, name string, height, width uint16) error

	ContainerArchiveStat(ctx context.Context, name, path string) (container.PathStat, error)
	ContainerArchive(ctx context.Context, name, path string) (archive.Archive, error)
	ContainerArchiveExtract(ctx context.Context, name, path string, o archive.ExtractOptions, content io.Reader) error
	ContainerExport(ctx context.Context, name string, w io.Writer) error
}

// Execs is what the server needs of the engine for additional processes.
type Execs interface {
	ExecCreate(ctx context.Context, name string, r container.ExecCreateRequest) (id string, err error)
	ExecStart(ctx context.Context, id string, o engine.ExecStartOptions) error
	ExecResize(ctx context.Context, id string, height, width uint16) error
	ExecInspect(ctx context.Context, id string) (*container.ExecInspectResponse, error)
}

// Images is what the server needs of the engine for images.
type Images interface {
	ImagePull(ctx context.Context, o pull.Options) error
	ImagePush(ctx context.Context, o pull.PushOptions) error
	ImageSearch(ctx context.Context, o pull.SearchOptions) ([]registry.SearchResult, error)
	DistributionInspect(ctx context.Context, name string, a *registry.AuthConfig) (*registry.DistributionInspect, error)
	ImageLoad(ctx context.Context, r io.Reader, platforms []ocispec.Platform, p pull.Progress) error
	ImageSave(ctx context.Context, names []string, platforms []ocispec.Platform, w io.Writer) error
	ImageImport(ctx context.Context, o pull.ImportOptions) error
	ImageCommit(ctx context.Context, o archive.CommitOptions) (container.CommitResponse, error)
	ImageList(ctx context.Context, o engine.ImageListOptions) ([]image.Summary, error)
	ImageInspect(ctx context.Context, name string, platform *ocispec.Platform) (*image.InspectResponse, error)
	ImageAttestations(ctx context.Context, name string, o engine.AttestationOptions) ([]image.AttestationStatement, error)
	ImageHistory(ctx context.Context, name string, platform *ocispec.Platform) ([]image.HistoryResponseItem, error)
	ImageTag(ctx context.Context, name, repo, tag string) error
	ImageRemove(ctx context.Context, name string, o engine.ImageRemoveOptions) ([]image.DeleteResponse, error)
	ImagePrune(ctx context.Context, f filters.Args) (image.PruneReport, error)
}

// Builds is what the server needs of the engine for building images.
type Builds interface {
	BuildDial(ctx context.Context) (net.Conn, error)
	BuildPrune(ctx context.Context, q url.Values) (*build.CachePruneReport, error)
}

// Volumes is what the server needs of the engine for volumes.
type Volumes interface {
	VolumeCreate(ctx context.Context, r volume.CreateRequest) (*volume.Volume, error)
	VolumeInspect(ctx context.Context, name string) (*volume.Volume, error)
	VolumeList(ctx context.Context, f filters.Args) (volume.ListResponse, error)
	VolumeRemove(ctx context.Context, name string, force bool) error
	VolumePrune(ctx context.Context, f filters.Args) (volume.PruneReport, error)

	VolumeExport(ctx context.Context, name string, w io.Writer) error
	VolumeImport(ctx context.Context, r engine.VolumeImport) (*volume.Volume, error)
	VolumeClone(ctx context.Context, name, to string) (*volume.Volume, error)
	VolumeSnapshot(ctx context.Context, name, to string) (*volume.Volume, error)
	VolumeRename(ctx context.Context, name, to string) (*volume.Volume, error)
}

// Secrets is what the server needs of the engine for secrets and configs.
type Secrets interface {
	SecretCreate(ctx context.Context, s swarm.SecretSpec) (id string, err error)
	SecretInspect(ctx context.Context, ref string) (swarm.Secret, error)
	SecretList(ctx context.Context, f filters.Args) ([]swarm.Secret, error)
	SecretUpdate(ctx context.Context, ref string, version uint64, s swarm.SecretSpec) error
	SecretRemove(ctx context.Context, ref string) error

	ConfigCreate(ctx context.Context, s swarm.ConfigSpec) (id string, err error)
	ConfigInspect(ctx context.Context, ref string) (swarm.Config, error)
	ConfigList(ctx context.Context, f filters.Args) ([]swarm.Config, error)
	ConfigUpdate(ctx context.Context, ref string, version uint64, s swarm.ConfigSpec) error
	ConfigRemove(ctx context.Context, ref string) error
}

// Networks is what the server needs of the engine for networks.
type Networks interface {
	NetworkList(ctx context.Context, f filters.Args) ([]network.Summary, error)
	NetworkInspect(ctx context.Context, name string, verbose bool) (*network.Inspect, error)
	NetworkCreate(ctx context.Context, q network.CreateRequest) (network.CreateResponse, error)
	NetworkRemove(ctx context.Context, name string) error
	NetworkPrune(ctx context.Context, f filters.Args) (network.PruneReport, error)
	NetworkConnect(ctx context.Context, name, container string, ep *network.EndpointSettings) error
	NetworkDisconnect(ctx context.Context, name, container string, force bool) error
}

// System is what the server needs of the engine as a whole.
type System interface {
	SystemInfo(ctx context.Context) (*system.Info, error)
	SystemVersion(ctx context.Context) (system.VersionResponse, error)
	SystemDiskUsage(ctx context.Context, o prune.UsageOptions) (*system.DiskUsage, error)
	SystemShutdown(ctx context.Context, o engine.StopOptions) (stopped []string, err error)
	DiskReclaim(ctx context.Context, dryRun bool) (disk.Report, error)
	SystemAuth(ctx context.Context, a registry.AuthConfig) (registry.AuthResponse, error)
	Events(ctx context.Context, o engine.EventsOptions) (engine.EventStream, error)
	ContainersUsage(ctx context.Context) ([]stats.Usage, error)
}

// Backend is the whole engine as the server sees it.
type Backend interface {
	Containers
	Execs
	Images
	Builds
	Volumes
	Secrets
	Networks
	System
}
