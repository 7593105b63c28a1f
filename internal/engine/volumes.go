package engine

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/events"
	apivolume "github.com/moby/moby/api/types/volume"

	"lade/internal/errdefs"
	"lade/internal/filters"
	"lade/internal/volume"
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

// VolumeInspect returns a volume.
func (e *Engine) VolumeInspect(_ context.Context, name string) (*apivolume.Volume, error) {
	return e.volumes.Inspect(name)
}

// VolumeList returns the volumes that match.
func (e *Engine) VolumeList(_ context.Context, f filters.Args) (apivolume.ListResponse, error) {
	out := apivolume.ListResponse{Volumes: []apivolume.Volume{}, Warnings: []string{}}
	if err := f.Validate("dangling", "driver", "label", "name"); err != nil {
		return out, err
	}
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return out, err
	}
	for _, v := range e.volumes.List() {
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
func (e *Engine) VolumeRemove(ctx context.Context, name string, force bool) error {
	v, err := e.volumes.Inspect(name)
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

// VolumePrune removes the volumes that nobody uses: the anonymous ones, or
// with the filter all=true every one.
func (e *Engine) VolumePrune(ctx context.Context, f filters.Args) (apivolume.PruneReport, error) {
	report := apivolume.PruneReport{VolumesDeleted: []string{}}
	if err := f.Validate("all", "label", "label!"); err != nil {
		return report, err
	}
	all, err := f.Bool("all", false)
	if err != nil {
		return report, err
	}
	for _, v := range e.volumes.List() {
		_, anonymous := v.Labels[volume.Anonymous]
		if !all && !anonymous || len(e.volumes.Users(v.Name)) > 0 || !pruneMatch(f, time.Time{}, time.Time{}, v.Labels) {
			continue
		}
		size, err := treeSize(v.Mountpoint)
		if err != nil {
			return report, err
		}
		if err := e.VolumeRemove(ctx, v.Name, false); err != nil {
			e.log.Info("not pruned", "volume", v.Name, "error", err)
			continue
		}
		report.VolumesDeleted = append(report.VolumesDeleted, v.Name)
		report.SpaceReclaimed += uint64(size)
	}
	e.events.Publish(events.VolumeEventType, events.ActionPrune, "", map[string]string{"reclaimed": itoa(int(report.SpaceReclaimed))})
	return report, nil
}

// treeSize returns the bytes on disk of the files below dir, each inode once.
func treeSize(dir string) (int64, error) {
	var sum int64
	seen := map[uint64]bool{}
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			if os.IsPermission(err) {
				return err
			}
			return nil // it went away meanwhile
		}
		fi, err := d.Info()
		if err != nil {
			return nil
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if !ok || d.IsDir() || st.Nlink > 1 && seen[st.Ino] {
			return nil
		}
		seen[st.Ino] = true
		sum += st.Blocks * 512
		return nil
	})
	return sum, err
}
