package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"testing"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/engine"
	"lade/internal/engine/archive"
	"lade/internal/engine/prune"
	"lade/internal/engine/pull"
	"lade/internal/engine/stats"
	"lade/internal/errdefs"
	"lade/internal/filters"
	"lade/internal/logs"
)

// fake is an engine that answers every operation with err, or with the value
// that body decodes to. Single operations are replaced in tests that need more.
type fake struct {
	Backend // nil: what is not below is not called

	err  error
	body []byte
	logs engine.LogStream

	called string // the last operation
	create engine.CreateOptions
	list   engine.ListOptions
	pull   pull.Options
	push   pull.PushOptions
	load   []byte
	stop   engine.StopOptions
	update engine.UpdateConfig
	until  container.WaitCondition
	ctx    context.Context
}

// canned returns what the fake was given for an operation.
func canned[T any](f *fake, ctx context.Context, op string) (v T, err error) {
	f.called, f.ctx = op, ctx
	if f.err != nil {
		return v, f.err
	}
	if len(f.body) > 0 {
		err = json.Unmarshal(f.body, &v)
	}
	return v, err
}

func (f *fake) none(ctx context.Context, op string) error {
	f.called, f.ctx = op, ctx
	return f.err
}

func (f *fake) ContainerCreate(ctx context.Context, o engine.CreateOptions) (container.CreateResponse, error) {
	f.create = o
	return canned[container.CreateResponse](f, ctx, "ContainerCreate")
}
func (f *fake) ContainerStart(ctx context.Context, _ string) error {
	return f.none(ctx, "ContainerStart")
}
func (f *fake) ContainerStop(ctx context.Context, _ string, o engine.StopOptions) error {
	f.stop = o
	return f.none(ctx, "ContainerStop")
}
func (f *fake) ContainerRestart(ctx context.Context, _ string, o engine.StopOptions) error {
	f.stop = o
	return f.none(ctx, "ContainerRestart")
}
func (f *fake) ContainerKill(ctx context.Context, _, _ string) error {
	return f.none(ctx, "ContainerKill")
}
func (f *fake) ContainerPause(ctx context.Context, _ string) error {
	return f.none(ctx, "ContainerPause")
}
func (f *fake) ContainerUnpause(ctx context.Context, _ string) error {
	return f.none(ctx, "ContainerUnpause")
}
func (f *fake) ContainerRename(ctx context.Context, _, _ string) error {
	return f.none(ctx, "ContainerRename")
}
func (f *fake) ContainerUpdate(ctx context.Context, _ string, u engine.UpdateConfig) (engine.UpdateResponse, error) {
	f.update = u
	return canned[engine.UpdateResponse](f, ctx, "ContainerUpdate")
}
func (f *fake) ContainerRemove(ctx context.Context, _ string, _ engine.RemoveOptions) error {
	return f.none(ctx, "ContainerRemove")
}
func (f *fake) ContainerPrune(ctx context.Context, _ filters.Args) (container.PruneReport, error) {
	return canned[container.PruneReport](f, ctx, "ContainerPrune")
}
func (f *fake) ContainerInspect(ctx context.Context, _ string, _ bool) (*engine.InspectResponse, error) {
	return canned[*engine.InspectResponse](f, ctx, "ContainerInspect")
}
func (f *fake) ContainerList(ctx context.Context, o engine.ListOptions) ([]*engine.Listed, error) {
	f.list = o
	list, err := canned[[]container.Summary](f, ctx, "ContainerList")
	return listed(list), err
}

// listed is a list as an engine gives it.
func listed(list []container.Summary) (out []*engine.Listed) {
	for _, s := range list {
		out = append(out, &engine.Listed{Summary: s})
	}
	return out
}

func (f *fake) ContainerTop(ctx context.Context, _ string, _ []string) (container.TopResponse, error) {
	return canned[container.TopResponse](f, ctx, "ContainerTop")
}
func (f *fake) ContainerStats(ctx context.Context, _ string, o stats.Options) (iter.Seq2[*stats.Sample, error], error) {
	one, err := canned[*container.StatsResponse](f, ctx, "ContainerStats")
	return func(yield func(*stats.Sample, error) bool) {
		for range 2 {
			if !yield(&stats.Sample{StatsResponse: one}, nil) || !o.Stream {
				return
			}
		}
	}, err
}
func (f *fake) ContainerLogsClear(ctx context.Context, _ string) error {
	return f.none(ctx, "ContainerLogsClear")
}

func (f *fake) ContainerLogs(ctx context.Context, _ string, _ engine.LogsOptions) (engine.LogStream, error) {
	return f.logs, f.none(ctx, "ContainerLogs")
}
func (f *fake) ContainerChanges(ctx context.Context, _ string) ([]container.FilesystemChange, error) {
	return canned[[]container.FilesystemChange](f, ctx, "ContainerChanges")
}
func (f *fake) ContainerWait(ctx context.Context, _ string, until container.WaitCondition) (<-chan container.WaitResponse, error) {
	f.until = until
	res, err := canned[container.WaitResponse](f, ctx, "ContainerWait")
	c := make(chan container.WaitResponse, 1)
	c <- res
	return c, err
}
func (f *fake) ContainerAttach(ctx context.Context, _ string, _ engine.AttachOptions) error {
	return f.none(ctx, "ContainerAttach")
}
func (f *fake) ImageCommit(ctx context.Context, _ archive.CommitOptions) (container.CommitResponse, error) {
	return canned[container.CommitResponse](f, ctx, "ImageCommit")
}
func (f *fake) ContainerResize(ctx context.Context, _ string, _, _ uint16) error {
	return f.none(ctx, "ContainerResize")
}
func (f *fake) ContainerArchiveStat(ctx context.Context, _, _ string) (container.PathStat, error) {
	return canned[container.PathStat](f, ctx, "ContainerArchiveStat")
}
func (f *fake) ContainerArchive(ctx context.Context, _, _ string) (archive.Archive, error) {
	stat, err := canned[container.PathStat](f, ctx, "ContainerArchive")
	return archive.Archive{Stat: stat, Content: io.NopCloser(io.LimitReader(zeros{}, 1024))}, err
}
func (f *fake) ContainerArchiveExtract(ctx context.Context, _, _ string, _ archive.ExtractOptions, r io.Reader) error {
	var err error
	if f.load, err = io.ReadAll(r); err != nil {
		return err
	}
	return f.none(ctx, "ContainerArchiveExtract")
}
func (f *fake) ContainerExport(ctx context.Context, _ string, w io.Writer) error {
	if err := f.none(ctx, "ContainerExport"); err != nil {
		return err
	}
	_, err := w.Write(f.body)
	return err
}
func (f *fake) ExecCreate(ctx context.Context, _ string, _ container.ExecCreateRequest) (string, error) {
	r, err := canned[container.ExecCreateResponse](f, ctx, "ExecCreate")
	return r.ID, err
}
func (f *fake) ExecStart(ctx context.Context, _ string, _ engine.ExecStartOptions) error {
	return f.none(ctx, "ExecStart")
}
func (f *fake) ExecResize(ctx context.Context, _ string, _, _ uint16) error {
	return f.none(ctx, "ExecResize")
}
func (f *fake) ExecInspect(ctx context.Context, _ string) (*container.ExecInspectResponse, error) {
	return canned[*container.ExecInspectResponse](f, ctx, "ExecInspect")
}

func (f *fake) ImagePull(ctx context.Context, o pull.Options) error {
	f.pull = o
	return f.tell(ctx, "ImagePull", o.Progress)
}
func (f *fake) ImageImport(ctx context.Context, o pull.ImportOptions) error {
	return f.tell(ctx, "ImageImport", o.Progress)
}
func (f *fake) ImageLoad(ctx context.Context, r io.Reader, _ []ocispec.Platform, p pull.Progress) error {
	var err error
	if f.load, err = io.ReadAll(r); err != nil {
		return err
	}
	return f.tell(ctx, "ImageLoad", p)
}

// tell reports the messages in body.
func (f *fake) tell(ctx context.Context, op string, p pull.Progress) error {
	if err := f.none(ctx, op); err != nil {
		return err
	}
	var list []jsonstream.Message
	if err := json.Unmarshal(f.body, &list); err != nil {
		return err
	}
	for _, m := range list {
		p(m)
	}
	return nil
}
func (f *fake) ImageSave(ctx context.Context, _ []string, _ []ocispec.Platform, w io.Writer) error {
	if err := f.none(ctx, "ImageSave"); err != nil {
		return err
	}
	_, err := w.Write(f.body)
	return err
}
func (f *fake) ImageList(ctx context.Context, o engine.ImageListOptions) ([]image.Summary, error) {
	if err := o.Filters.Validate("reference", "dangling", "label", "before", "since", "until"); err != nil {
		return nil, err
	}
	return canned[[]image.Summary](f, ctx, "ImageList")
}
func (f *fake) ImageInspect(ctx context.Context, _ string, _ *ocispec.Platform) (*image.InspectResponse, error) {
	return canned[*image.InspectResponse](f, ctx, "ImageInspect")
}
func (f *fake) ImageAttestations(ctx context.Context, _ string, _ engine.AttestationOptions) ([]image.AttestationStatement, error) {
	return canned[[]image.AttestationStatement](f, ctx, "ImageAttestations")
}
func (f *fake) ImageHistory(ctx context.Context, _ string, _ *ocispec.Platform) ([]image.HistoryResponseItem, error) {
	return canned[[]image.HistoryResponseItem](f, ctx, "ImageHistory")
}
func (f *fake) ImageTag(ctx context.Context, _, _, _ string) error { return f.none(ctx, "ImageTag") }
func (f *fake) ImageRemove(ctx context.Context, _ string, _ engine.ImageRemoveOptions) ([]image.DeleteResponse, error) {
	return canned[[]image.DeleteResponse](f, ctx, "ImageRemove")
}
func (f *fake) ImagePrune(ctx context.Context, _ filters.Args) (image.PruneReport, error) {
	return canned[image.PruneReport](f, ctx, "ImagePrune")
}

func (f *fake) VolumeCreate(ctx context.Context, _ volume.CreateRequest) (*volume.Volume, error) {
	return canned[*volume.Volume](f, ctx, "VolumeCreate")
}
func (f *fake) VolumeInspect(ctx context.Context, _ string) (*volume.Volume, error) {
	return canned[*volume.Volume](f, ctx, "VolumeInspect")
}
func (f *fake) VolumeList(ctx context.Context, _ filters.Args) (volume.ListResponse, error) {
	return canned[volume.ListResponse](f, ctx, "VolumeList")
}
func (f *fake) VolumeRemove(ctx context.Context, _ string, _ bool) error {
	return f.none(ctx, "VolumeRemove")
}
func (f *fake) VolumePrune(ctx context.Context, _ filters.Args) (volume.PruneReport, error) {
	return canned[volume.PruneReport](f, ctx, "VolumePrune")
}
func (f *fake) NetworkList(ctx context.Context, _ filters.Args) ([]network.Summary, error) {
	return canned[[]network.Summary](f, ctx, "NetworkList")
}
func (f *fake) NetworkCreate(ctx context.Context, _ network.CreateRequest) (network.CreateResponse, error) {
	return canned[network.CreateResponse](f, ctx, "NetworkCreate")
}
func (f *fake) NetworkRemove(ctx context.Context, _ string) error {
	return f.none(ctx, "NetworkRemove")
}
func (f *fake) NetworkPrune(ctx context.Context, _ filters.Args) (network.PruneReport, error) {
	return canned[network.PruneReport](f, ctx, "NetworkPrune")
}
func (f *fake) NetworkConnect(ctx context.Context, _, _ string, _ *network.EndpointSettings) error {
	return f.none(ctx, "NetworkConnect")
}
func (f *fake) NetworkDisconnect(ctx context.Context, _, _ string, _ bool) error {
	return f.none(ctx, "NetworkDisconnect")
}
func (f *fake) NetworkInspect(ctx context.Context, _ string, _ bool) (*network.Inspect, error) {
	return canned[*network.Inspect](f, ctx, "NetworkInspect")
}
func (f *fake) SystemInfo(ctx context.Context) (*system.Info, error) {
	return canned[*system.Info](f, ctx, "SystemInfo")
}
func (f *fake) BuildDial(ctx context.Context) (net.Conn, error) {
	return nil, errors.Join(f.none(ctx, "BuildDial"), errdefs.NotFoundf("there is no builder"))
}
func (f *fake) BuildPrune(ctx context.Context, _ url.Values) (*build.CachePruneReport, error) {
	return canned[*build.CachePruneReport](f, ctx, "BuildPrune")
}
func (f *fake) SystemShutdown(ctx context.Context, _ engine.StopOptions) ([]string, error) {
	return canned[[]string](f, ctx, "SystemShutdown")
}
func (f *fake) SystemVersion(ctx context.Context) (system.VersionResponse, error) {
	return canned[system.VersionResponse](f, ctx, "SystemVersion")
}
func (f *fake) SystemDiskUsage(ctx context.Context, _ prune.UsageOptions) (*system.DiskUsage, error) {
	return canned[*system.DiskUsage](f, ctx, "SystemDiskUsage")
}
func (f *fake) ImagePush(ctx context.Context, o pull.PushOptions) error {
	f.push = o
	return f.tell(ctx, "ImagePush", o.Progress)
}
func (f *fake) ImageSearch(ctx context.Context, _ pull.SearchOptions) ([]registry.SearchResult, error) {
	return canned[[]registry.SearchResult](f, ctx, "ImageSearch")
}
func (f *fake) DistributionInspect(ctx context.Context, _ string, _ *registry.AuthConfig) (*registry.DistributionInspect, error) {
	return canned[*registry.DistributionInspect](f, ctx, "DistributionInspect")
}
func (f *fake) SystemAuth(ctx context.Context, _ registry.AuthConfig) (registry.AuthResponse, error) {
	return canned[registry.AuthResponse](f, ctx, "SystemAuth")
}
func (f *fake) ContainersUsage(ctx context.Context) ([]stats.Usage, error) {
	return canned[[]stats.Usage](f, ctx, "ContainersUsage")
}
func (f *fake) Events(ctx context.Context, _ engine.EventsOptions) (engine.EventStream, error) {
	list, err := canned[[]events.Message](f, ctx, "Events")
	return func(yield func(events.Message, error) bool) {
		for _, m := range list {
			if !yield(m, nil) {
				return
			}
		}
	}, err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// errorOf returns an error that the server answers with a status and a message.
func errorOf(t *testing.T, status int, message string) error {
	t.Helper()
	switch status {
	case http.StatusBadRequest:
		return errdefs.Invalidf("%s", message)
	case http.StatusForbidden:
		return errdefs.Forbiddenf("%s", message)
	case http.StatusNotFound:
		return errdefs.NotFoundf("%s", message)
	case http.StatusConflict:
		return errdefs.Conflictf("%s", message)
	case http.StatusNotModified:
		return errdefs.NotModifiedf("%s", message)
	case http.StatusNotImplemented:
		return errdefs.NotImplementedf("%s", message)
	case http.StatusInternalServerError:
		return errors.New(message)
	}
	t.Fatalf("no kind for status %d", status)
	return nil
}

// messages returns a stream of fixed log messages.
func messages(list ...logs.Message) iter.Seq2[logs.Message, error] {
	return func(yield func(logs.Message, error) bool) {
		for _, m := range list {
			if !yield(m, nil) {
				return
			}
		}
	}
}

func (f *fake) SecretRemove(ctx context.Context, _ string) error { return f.none(ctx, "SecretRemove") }
func (f *fake) ConfigRemove(ctx context.Context, _ string) error { return f.none(ctx, "ConfigRemove") }

func (f *fake) SecretCreate(ctx context.Context, _ swarm.SecretSpec) (string, error) {
	return "", f.none(ctx, "SecretCreate")
}
func (f *fake) SecretInspect(ctx context.Context, _ string) (swarm.Secret, error) {
	return swarm.Secret{}, f.none(ctx, "SecretInspect")
}
func (f *fake) SecretList(ctx context.Context, _ filters.Args) ([]swarm.Secret, error) {
	return nil, f.none(ctx, "SecretList")
}
func (f *fake) SecretUpdate(ctx context.Context, _ string, _ uint64, _ swarm.SecretSpec) error {
	return f.none(ctx, "SecretUpdate")
}
func (f *fake) ConfigCreate(ctx context.Context, _ swarm.ConfigSpec) (string, error) {
	return "", f.none(ctx, "ConfigCreate")
}
func (f *fake) ConfigInspect(ctx context.Context, _ string) (swarm.Config, error) {
	return swarm.Config{}, f.none(ctx, "ConfigInspect")
}
func (f *fake) ConfigList(ctx context.Context, _ filters.Args) ([]swarm.Config, error) {
	return nil, f.none(ctx, "ConfigList")
}
func (f *fake) ConfigUpdate(ctx context.Context, _ string, _ uint64, _ swarm.ConfigSpec) error {
	return f.none(ctx, "ConfigUpdate")
}
