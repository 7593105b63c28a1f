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
			s.ImageManifestDescriptor = nil // lists have it
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
			if v.Driver != "local" {
				continue // a plugin's: it is not of this disk
			}
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
		items, err := p.c.BuildUsage(ctx)
		if err != nil {
			return nil, err
		}
		out.BuildCacheUsage = buildUsage(items)
	}
	return out, nil
}

// buildUsage adds up the build cache. What a record shares with an image is the
// image's.
func buildUsage(items []build.CacheRecord) *build.DiskUsage {
	u := &build.DiskUsage{Items: items, TotalCount: int64(len(items))}
	for _, i := range items {
		if i.InUse {
			u.ActiveCount++
		}
		if i.Shared {
			continue
		}
		u.TotalSize += i.Size
		if !i.InUse {
			u.Reclaimable += i.Size
		}
	}
	return u
}

// imageUsage counts every layer and every blob once, whoever shares it: what
// pruning all images would free is what is said to be reclaimable. Clients of
// before API 1.52 reckon that from the sizes of the images, which therefore
// contain the blobs, too.
func (p *Pruner) imageUsage() *apiimage.DiskUsage {
	u := &apiimage.DiskUsage{}
	images := p.c.Images.List()
	shared := sharing{}
	for _, img := range images {
		used := len(p.c.Users(img.ID)) > 0
		for i, l := range img.Layers {
			shared.add(unpacked(img.ChainIDs[i]), l.Size, used)
		}
		for _, d := range img.Blobs() {
			if n, err := p.c.Images.Content().Stat(d); err == nil { // else it went meanwhile
				shared.add(string(d), n, used)
			}
		}
	}
	for _, img := range images {
		s := p.c.ImageSummary(img)
		s.Containers, s.SharedSize = int64(len(p.c.Users(img.ID))), 0
		for i := range img.Layers {
			s.SharedSize += shared[unpacked(img.ChainIDs[i])].common()
		}
		for _, d := range img.Blobs() {
			one := shared[string(d)]
			s.Size += one.size
			s.SharedSize += one.common()
		}
		u.TotalCount++
		if s.Containers > 0 {
			u.ActiveCount++
		}
		u.Items = append(u.Items, s)
	}
	for _, one := range shared {
		u.TotalSize += one.size
		if !one.used {
			u.Reclaimable += one.size
		}
	}
	return u
}

// sharing is what layers, by unpacked, and blobs, by their digest, take.
type sharing map[string]share

// unpacked is the key of a layer on the disk. The ChainID of a bottom layer is
// also the digest of its tar, which may be a blob.
func unpacked(c digest.ChainID) string { return "unpacked " + string(c) }

type share struct {
	size   int64
	images int  // that have it
	used   bool // by a container of one of them
}

func (s sharing) add(key string, size int64, used bool) {
	one := s[key]
	s[key] = share{size, one.images + 1, one.used || used}
}

// common returns the bytes that an image has in common with others.
func (s share) common() int64 {
	if s.images > 1 {
		return s.size
	}
	return 0
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
