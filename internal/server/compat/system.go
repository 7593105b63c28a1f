package compat

import (
	"net/netip"
	"strings"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
)

// info is the answer of SystemInfo before 1.50.
type info struct {
	*system.Info
	BridgeNfIptables  bool
	BridgeNfIP6tables bool `json:"BridgeNfIp6tables"`
}

// info48 is the answer of SystemInfo before 1.49.
type info48 struct {
	*info
	RegistryConfig   *serviceConfig
	ContainerdCommit commit
	RuncCommit       commit
	InitCommit       commit
}

type serviceConfig struct {
	AllowNondistributableArtifactsCIDRs     []netip.Prefix
	AllowNondistributableArtifactsHostnames []string
	*registry.ServiceConfig
}

type commit struct{ ID, Expected string }

// DiskUsage is the answer of SystemDiskUsage with the lists that clients of
// 1.52 and older read. A recorded 1.55 sends them too, unless asked to be
// verbose.
type DiskUsage struct {
	*system.DiskUsage
	LayersSize int64               `json:",omitempty"`
	Images     []image.Summary     `json:",omitzero"`
	Containers []container.Summary `json:",omitzero"`
	Volumes    []volume.Volume     `json:",omitzero"`
	BuildCache []build.CacheRecord `json:",omitzero"`
}

// diskUsage43 is DiskUsage before 1.44.
type diskUsage43 struct {
	*DiskUsage
	Images any `json:",omitempty"` // []imageSummary
}

// event is a message of Events before 1.52.
type event struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	*events.Message
}

func systemRows() []Row {
	return []Row{
		response("SystemInfo", 53, func(i *system.Info) any {
			out := *i
			out.NRI = nil
			return &out
		}),
		response("SystemInfo", 50, func(i *system.Info) any {
			i.DiscoveredDevices = nil // a copy since 1.53
			return &info{Info: i}
		}),
		response("SystemInfo", 49, func(i *info) any {
			i.FirewallBackend = nil
			out := &info48{
				info:             i,
				ContainerdCommit: commit{i.ContainerdCommit.ID, i.ContainerdCommit.ID},
				RuncCommit:       commit{i.RuncCommit.ID, i.RuncCommit.ID},
				InitCommit:       commit{i.InitCommit.ID, i.InitCommit.ID},
			}
			if i.RegistryConfig != nil {
				out.RegistryConfig = &serviceConfig{ServiceConfig: i.RegistryConfig}
			}
			return out
		}),
		response("SystemInfo", 46, func(i *info48) any {
			i.Containerd = nil
			return i
		}),
		response("SystemInfo", 44, func(i *info48) any {
			runtimes := make(map[string]system.RuntimeWithStatus, len(i.Runtimes))
			for name, r := range i.Runtimes {
				r.Status = nil
				runtimes[name] = r
			}
			i.Runtimes = runtimes
			return i
		}),
		response("SystemInfo", 25, func(i *info48) any {
			names := make([]string, 0, len(i.SecurityOptions))
			for _, o := range i.SecurityOptions {
				name, _, _ := strings.Cut(strings.TrimPrefix(o, "name="), ",")
				names = append(names, name)
			}
			i.SecurityOptions = names
			return i
		}),

		query("SystemDiskUsage", 42, drop("type")),
		query("SystemDiskUsage", 52, drop("verbose")),
		response("SystemDiskUsage", 52, func(d *DiskUsage) any {
			out := *d
			out.DiskUsage = nil
			return &out
		}),
		response("SystemDiskUsage", 44, func(d *DiskUsage) any {
			out := &diskUsage43{DiskUsage: d}
			if d.Images != nil {
				out.Images = virtualSizes(d.Images)
			}
			return out
		}),

		response("Events", 52, func(m *events.Message) any {
			e := &event{Message: m}
			switch m.Type {
			case events.ContainerEventType:
				e.Status, e.ID, e.From = string(m.Action), m.Actor.ID, m.Actor.Attributes["image"]
			case events.ImageEventType:
				e.Status, e.ID = string(m.Action), m.Actor.ID
			}
			return e
		}),
	}
}
