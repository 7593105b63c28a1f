package engine

import (
	"context"

	"github.com/moby/moby/api/types/events"
	apivolume "github.com/moby/moby/api/types/volume"

	"lade/internal/errdefs"
	"lade/internal/filters"
)

// VolumeCreate makes a volume, or returns the one of that name.
func (e *Engine) VolumeCreate(ctx context.Context, r apivolume.CreateRequest) (*apivolume.Volume, error) {
	if r.ClusterVolumeSpec != nil {
		return nil, errdefs.NotImplementedf("cluster volumes are not implemented")
	}
	v, created, err := e.volumes.Create(ctx, r)
	if err != nil {
		return nil, err
	}
	if created {
		e.publishVolume(events.ActionCreate, v.Name, map[string]string{"driver": v.Driver})
	}
	return v, nil
}

// VolumeInspect returns a volume. Of one of a plugin, the plugin is asked.
func (e *Engine) VolumeInspect(ctx context.Context, name string) (*apivolume.Volume, error) {
	return e.volumes.Ask(ctx, name)
}

// VolumeList returns the volumes that match.
func (e *Engine) VolumeList(ctx context.Context, f filters.Args) (apivolume.ListResponse, error) {
	out := apivolume.ListResponse{Volumes: []apivolume.Volume{}, Warnings: []string{}}
	if err := f.Validate("dangling", "driver", "label", "name"); err != nil {
		return out, err
	}
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return out, err
	}
	all, warnings := e.volumes.All(ctx)
	out.Warnings = append(out.Warnings, warnings...)
	for _, v := range all {
		unused := len(e.volumes.Users(v.Name)) == 0
		if f.Has("dangling") && dangling != unused || !f.Match("name", v.Name) || !f.Exact("driver", v.Driver) || !f.Labels("label", v.Labels) {
			continue
		}
		out.Volumes = append(out.Volumes, *v)
	}
	return out, nil
}

// VolumeRemove deletes a volume and its data. Errors: NotFound, Conflict while
// a container uses it.
func (e *host) VolumeRemove(ctx context.Context, name string, force bool) error {
	v, err := e.volumes.Inspect(name)
	if errdefs.KindOf(err) == errdefs.NotFound {
		v, err = e.volumes.Ask(ctx, name)
	}
	if err != nil {
		if force {
			return nil
		}
		return err
	}
	if err := e.volumes.Remove(ctx, name, force); err != nil {
		return err
	}
	e.publishVolume(events.ActionDestroy, name, map[string]string{"driver": v.Driver})
	return nil
}
