package prune

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/moby/moby/api/types/build"
	apicontainer "github.com/moby/moby/api/types/container"
	apiimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	apivolume "github.com/moby/moby/api/types/volume"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/image"
)

// UsageOptions is the request of SystemDiskUsage.
type UsageOptions struct {
	Containers, Images, Volumes, BuildCache bool
	Verbose                                 bool
}

// SystemDiskUsage tells what takes how much space, and what prune would free.
func (p *Pruner) SystemDiskUsage(ctx context.Context, o UsageOptions) (*system.DiskUsage, error) {
	out := &system.DiskUsage{}
	if !o.Containers && !o.Images && !o.Volumes && !o.BuildCache {
		o.Containers, o.Images, o.Volumes, o.BuildCache = true, true, true, true
	}
	if o.Containers {
		u := &apicontainer.DiskUsage{}
		for _, a := range p.c.Containers.All() {
			r := a.View()
			s := p.c.Containers.Summary(r)
			rw, root, err := p.c.Containers.Sizes(ctx, r)
			if errdefs.KindOf(err) == errdefs.NotFound {
				continue
			}
			if err != nil {
				return nil, err
			}
			s.SizeRw, s.SizeRootFs = rw, root
			u.TotalCount++
			u.TotalSize += rw
			if r.State.Alive() {
				u.ActiveCount++
			} else {
				u.Reclaimable += rw
			}
			u.Items = append(u.Items, s)
		}
		out.ContainerUsage = u
	}
	if o.Images {
		out.ImageUsage = p.imageUsage()
	}
	if o.Volumes {
		u := &apivolume.DiskUsage{}
		for _, v := range p.c.Volumes.List() {
			size, err := p.volumeSize(v)
			if err != nil {
				return nil, err
			}
			users := len(p.c.Volumes.Users(v.Name))
			v.UsageData = &apivolume.UsageData{RefCount: int64(users), Size: size}
			u.TotalCount++
			u.TotalSize += size
			if users > 0 {
				u.ActiveCount++
			} else {
				u.Reclaimable += size
			}
			u.Items = append(u.Items, *v)
		}
		out.VolumeUsage = u
	}
	if o.BuildCache {
		out.BuildCacheUsage = &build.DiskUsage{}
	}
	return out, nil
}

// imageUsage counts every layer once, whoever shares it, and every blob: what
// pruning all images would free is what is said to be reclaimable.
func (p *Pruner) imageUsage() *apiimage.DiskUsage {
	u := &apiimage.DiskUsage{}
	images := p.c.Images.List()
	sharers, active := map[string]int{}, map[string]bool{}
	for _, img := range images {
		used := len(p.c.Users(img.ID)) > 0
		for i := range img.Layers {
			key := string(img.ChainIDs[i])
			sharers[key]++
			active[key] = active[key] || used
		}
	}
	counted := map[string]bool{}
	for _, img := range images {
		s := p.c.ImageSummary(img)
		s.Containers, s.SharedSize = int64(len(p.c.Users(img.ID))), 0
		for i, l := range img.Layers {
			key := string(img.ChainIDs[i])
			if sharers[key] > 1 {
				s.SharedSize += l.Size
			}
			if !counted[key] {
				counted[key] = true
				u.TotalSize += l.Size
				if !active[key] {
					u.Reclaimable += l.Size
				}
			}
		}
		u.TotalCount++
		if s.Containers > 0 {
			u.ActiveCount++
		}
		u.Items = append(u.Items, s)
	}
	all, used := p.blobs(images)
	u.TotalSize += all
	u.Reclaimable += all - used
	return u
}

// blobs returns the bytes of the blobs of images, and of those of images that
// containers use.
func (p *Pruner) blobs(images []*image.Image) (all, used int64) {
	active := map[digest.Digest]bool{}
	for _, img := range images {
		inUse := len(p.c.Users(img.ID)) > 0
		for _, d := range img.Blobs() {
			active[d] = active[d] || inUse
		}
	}
	for d, inUse := range active {
		n, err := p.c.Images.Content().Stat(d)
		if err != nil {
			continue // it went meanwhile
		}
		all += n
		if inUse {
			used += n
		}
	}
	return all, used
}

// volumeSize returns the bytes on disk of a volume's files; none are ours if they
// are on a device or server of their own.
func (p *Pruner) volumeSize(v *apivolume.Volume) (int64, error) {
	if p.c.Volumes.External(v.Name) {
		return 0, nil
	}
	return treeSize(v.Mountpoint)
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
