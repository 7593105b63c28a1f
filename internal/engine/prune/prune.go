package prune

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/build"
	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	apiimage "github.com/moby/moby/api/types/image"
	apivolume "github.com/moby/moby/api/types/volume"

	"lade/internal/digest"
	"lade/internal/engine/container"
	"lade/internal/errdefs"
	eventlog "lade/internal/events"
	"lade/internal/filters"
	"lade/internal/image"
	"lade/internal/snapshot"
	"lade/internal/volume"
)

// Containers is what pruning needs of the engine for containers.
type Containers interface {
	// All returns every container, newest first.
	All() []*container.Actor
	// Summary is a container as lists show it.
	Summary(r *container.Record) apicontainer.Summary
	// Sizes returns the bytes of a container's own files, and those with its
	// image. Errors: NotFound if it is removed meanwhile.
	Sizes(ctx context.Context, r *container.Record) (rw, root int64, err error)
}

// Config is what a pruner is made of.
type Config struct {
	Containers Containers
	Images     *image.Images
	Snapshots  snapshot.Snapshotter
	Volumes    *volume.Volumes
	Events     *eventlog.Log
	Logger     *slog.Logger

	// Users returns the containers that were made from an image.
	Users func(id digest.Digest) []image.User
	// ImageSummary is an image as lists show it.
	ImageSummary func(*image.Image) apiimage.Summary
	// Removed tells the event log of removed images, and puts them in the API's
	// words.
	Removed func([]image.Removed) []apiimage.DeleteResponse
	// BuildUsage returns what the build cache consists of.
	BuildUsage func(ctx context.Context) ([]build.CacheRecord, error)
	// VolumeRemove is the engine's.
	VolumeRemove func(ctx context.Context, name string, force bool) error
}

// Pruner finds and removes what nobody uses.
type Pruner struct{ c Config }

// New returns a pruner. It needs no closing.
func New(c Config) *Pruner { return &Pruner{c} }

// publish tells the event log how many bytes were freed.
func (p *Pruner) publish(kind events.Type, reclaimed uint64) {
	p.c.Events.Publish(kind, events.ActionPrune, "", map[string]string{"reclaimed": strconv.FormatUint(reclaimed, 10)})
}

// ContainerPrune removes every container that does not run and matches the
// filters until, label and label!.
func (p *Pruner) ContainerPrune(ctx context.Context, f filters.Args) (apicontainer.PruneReport, error) {
	report := apicontainer.PruneReport{}
	until, err := Until(f)
	if err != nil {
		return report, err
	}
	for _, a := range p.c.Containers.All() {
		r := a.View()
		if r.State.Alive() || r.State == container.Restarting || r.State == container.Starting || !Match(f, until, r.Created, r.Config.Labels) {
			continue
		}
		size, err := p.c.Snapshots.Usage(ctx, r.ID)
		if err != nil {
			size.Bytes = 0
		}
		if err := a.Remove(ctx, r.ID, false, false); err != nil {
			p.c.Logger.Info("not pruned", "container", r.ID, "error", err)
			continue
		}
		report.ContainersDeleted = append(report.ContainersDeleted, r.ID)
		report.SpaceReclaimed += uint64(size.Bytes)
	}
	p.publish(events.ContainerEventType, report.SpaceReclaimed)
	return report, nil
}

// ImagePrune removes the images that nothing uses: those without a name, or
// with dangling=false all.
func (p *Pruner) ImagePrune(ctx context.Context, f filters.Args) (apiimage.PruneReport, error) {
	var report apiimage.PruneReport
	until, err := Until(f, "dangling")
	if err != nil {
		return report, err
	}
	dangling, err := f.Bool("dangling", true)
	if err != nil {
		return report, err
	}
	removed, freed, err := p.c.Images.Prune(ctx, dangling, func(i *image.Image) bool {
		return Match(f, until, i.Created, i.Config.Config.Labels)
	}, p.c.Users)
	report.ImagesDeleted, report.SpaceReclaimed = p.c.Removed(removed), uint64(freed)
	p.publish(events.ImageEventType, report.SpaceReclaimed)
	return report, err
}

// VolumePrune removes the volumes that nobody uses: the anonymous ones, or
// with the filter all=true every one. Volumes of plugins and those with options
// stay, as in Docker: their files may be on another machine.
func (p *Pruner) VolumePrune(ctx context.Context, f filters.Args) (apivolume.PruneReport, error) {
	report := apivolume.PruneReport{VolumesDeleted: []string{}}
	if err := f.Validate("all", "label", "label!"); err != nil {
		return report, err
	}
	all, err := f.Bool("all", false)
	if err != nil {
		return report, err
	}
	for _, v := range p.c.Volumes.List() {
		_, anonymous := v.Labels[volume.Anonymous]
		if v.Driver != "local" || len(v.Options) > 0 || !all && !anonymous || len(p.c.Volumes.Users(v.Name)) > 0 || !Match(f, time.Time{}, time.Time{}, v.Labels) {
			continue
		}
		size, err := p.volumeSize(v)
		if err != nil {
			return report, err
		}
		if err := p.c.VolumeRemove(ctx, v.Name, false); err != nil {
			p.c.Logger.Info("not pruned", "volume", v.Name, "error", err)
			continue
		}
		report.VolumesDeleted = append(report.VolumesDeleted, v.Name)
		report.SpaceReclaimed += uint64(size)
	}
	p.publish(events.VolumeEventType, report.SpaceReclaimed)
	return report, nil
}

// Until reads the filters that most prunes have, and checks that there are no
// others but more; until is zero without one. Errors: Invalid.
func Until(f filters.Args, more ...string) (until time.Time, err error) {
	if err := f.Validate(append(more, "until", "label", "label!")...); err != nil {
		return until, err
	}
	switch v := f["until"]; len(v) {
	case 0:
		return until, nil
	case 1:
		if d, err := time.ParseDuration(v[0]); err == nil {
			return time.Now().Add(-d), nil
		}
		if sec, err := strconv.ParseInt(v[0], 10, 64); err == nil {
			return time.Unix(sec, 0), nil
		}
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
			if t, err := time.ParseInLocation(layout, v[0], time.Local); err == nil {
				return t, nil
			}
		}
		return until, errdefs.Invalidf("failed to parse %q as time or duration", v[0])
	}
	return until, errdefs.Invalidf("more than one until filter specified")
}

// Match applies those filters to an object that was created then and has those
// labels.
func Match(f filters.Args, until, created time.Time, labels map[string]string) bool {
	if !until.IsZero() && created.After(until) {
		return false
	}
	for _, not := range f["label!"] {
		if (filters.Args{"label": {not}}).Labels("label", labels) {
			return false
		}
	}
	return f.Labels("label", labels)
}
