package server

import (
	"net/http"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	"lade/internal/engine/prune"
	"lade/internal/errdefs"
	"lade/internal/server/compat"
)

// systemDiskUsage says what takes up space. Unless the client asks for the
// verbose form, the lists stand where older clients read them.
func (s *server) systemDiskUsage(w http.ResponseWriter, r *http.Request) error {
	o, err := diskUsageOptions(params(r).all("type"))
	if err != nil {
		return err
	}
	usage, err := s.backend.SystemDiskUsage(r.Context(), o)
	if err != nil {
		return err
	}
	out := &compat.DiskUsage{DiskUsage: usage}
	if params(r).bool("verbose") {
		return s.reply(w, r, http.StatusOK, out)
	}
	brief := *usage
	if u := usage.ImageUsage; u != nil {
		out.LayersSize, out.Images = u.TotalSize, present[image.Summary](u.Items)
		c := *u
		c.Items, brief.ImageUsage = nil, &c
	}
	if u := usage.ContainerUsage; u != nil {
		out.Containers = present[container.Summary](u.Items)
		c := *u
		c.Items, brief.ContainerUsage = nil, &c
	}
	if u := usage.VolumeUsage; u != nil {
		out.Volumes = present[volume.Volume](u.Items)
		c := *u
		c.Items, brief.VolumeUsage = nil, &c
	}
	if u := usage.BuildCacheUsage; u != nil {
		out.BuildCache = present[build.CacheRecord](u.Items)
		c := *u
		c.Items, brief.BuildCacheUsage = nil, &c
	}
	out.DiskUsage = &brief
	return s.reply(w, r, http.StatusOK, out)
}

// present returns the list, empty rather than nil.
func present[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// diskUsageOptions asks for everything, or for the kinds that are named.
// Errors: Invalid.
func diskUsageOptions(kinds []string) (prune.UsageOptions, error) {
	o := prune.UsageOptions{Verbose: true}
	if len(kinds) == 0 {
		o.Containers, o.Images, o.Volumes, o.BuildCache = true, true, true, true
	}
	for _, k := range kinds {
		switch system.DiskUsageObject(k) {
		case system.ContainerObject:
			o.Containers = true
		case system.ImageObject:
			o.Images = true
		case system.VolumeObject:
			o.Volumes = true
		case system.BuildCacheObject:
			o.BuildCache = true
		default:
			return o, errdefs.Invalidf("unknown object type: %s", k)
		}
	}
	return o, nil
}
