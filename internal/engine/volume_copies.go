package engine

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/moby/moby/api/types/events"
	apivolume "github.com/moby/moby/api/types/volume"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/volume"
)

// What lade does with volumes beside Docker's operations. Its requests are below
// /lade/volumes (docs/volumes.md).

// VolumeImport is the request of the operation of that name.
type VolumeImport struct {
	Name    string
	Labels  map[string]string
	Content io.Reader // a tar, compressed or not
}

// VolumeExport writes the files of a volume as a tar. Errors: NotFound.
func (e *Engine) VolumeExport(ctx context.Context, name string, w io.Writer) error {
	if _, err := e.volumes.Inspect(name); err != nil {
		return err
	}
	e.publishVolume(events.ActionExport, name, nil)
	return e.volumes.Export(ctx, name, w)
}

// VolumeImport makes a volume of a tar. Errors: Conflict for a name in use,
// Invalid, DataLoss; then there is no volume.
func (e *Engine) VolumeImport(ctx context.Context, r VolumeImport) (*apivolume.Volume, error) {
	v, err := e.volumes.Import(ctx, r.Name, r.Labels, r.Content)
	return e.madeVolume(v, err, nil)
}

// VolumeClone makes a volume with the files of another, as they are while it
// copies. Errors: NotFound, Conflict for a name in use.
func (e *Engine) VolumeClone(ctx context.Context, name, to string) (*apivolume.Volume, error) {
	v, err := e.volumes.Clone(ctx, name, volume.Copy{Name: to})
	return e.madeVolume(v, err, map[string]string{"from": name})
}

// VolumeSnapshot makes a volume that nobody writes to, with the files of another
// as they are at one moment: containers that use it stand still meanwhile.
// Without a name it has the volume's and the time. Errors: as of VolumeClone.
func (e *Engine) VolumeSnapshot(ctx context.Context, name, to string) (_ *apivolume.Volume, err error) {
	if to == "" {
		to = name + "-" + time.Now().UTC().Format("20060102T150405.000Z")
	}
	for _, id := range e.volumes.Users(name) {
		a, findErr := e.containers.find(id)
		if findErr != nil || a.View().State != container.Running {
			continue
		}
		let, holdErr := a.Hold(ctx)
		if errdefs.KindOf(holdErr) == errdefs.Conflict {
			continue // it has ended, or is paused
		}
		if holdErr != nil {
			return nil, holdErr
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
			defer cancel()
			err = errors.Join(err, let(ctx))
		}()
	}
	v, err := e.volumes.Clone(ctx, name, volume.Copy{Name: to, Snapshot: true})
	return e.madeVolume(v, err, map[string]string{"from": name})
}

// VolumeRename gives a volume that no container uses another name. Errors:
// NotFound, Conflict.
func (e *Engine) VolumeRename(ctx context.Context, name, to string) (*apivolume.Volume, error) {
	v, err := e.volumes.Rename(ctx, name, to)
	if err != nil {
		return nil, err
	}
	e.publishVolume(events.ActionRename, to, map[string]string{"driver": v.Driver, "oldName": name})
	return v, nil
}

// madeVolume tells the event log of a new volume.
func (e *host) madeVolume(v *apivolume.Volume, err error, more map[string]string) (*apivolume.Volume, error) {
	if err != nil {
		return nil, err
	}
	if more == nil {
		more = map[string]string{}
	}
	more["driver"] = v.Driver
	e.publishVolume(events.ActionCreate, v.Name, more)
	return v, nil
}
