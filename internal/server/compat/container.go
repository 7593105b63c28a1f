package compat

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"

	"lade/internal/engine"
	"lade/internal/errdefs"
	"lade/internal/ids"
)

// CreateRequest is the body of ContainerCreate with what older versions had
// beside the newest fields.
//
// It is flat so that errors of decoding name fields as Docker does.
type CreateRequest struct {
	*container.Config
	HostConfig       *engine.HostConfig
	NetworkingConfig *network.NetworkingConfig
	// MacAddress was container-wide before 1.52.
	MacAddress network.HardwareAddr
	// ReadOnlyNonRecursive is set before 1.44: mounts below a read-only -v are as they are.
	ReadOnlyNonRecursive bool `json:"-"`
}

// containerInspect is the answer of ContainerInspect before 1.52.
type containerInspect struct {
	*engine.InspectResponse
	NetworkSettings *networkSettings
}

// networkSettings repeats the default bridge network's endpoint beside the map
// of networks.
type networkSettings struct {
	*container.NetworkSettings
	*defaultEndpoint
}

type defaultEndpoint struct {
	EndpointID          string
	Gateway             netip.Addr
	GlobalIPv6Address   netip.Addr
	GlobalIPv6PrefixLen int
	IPAddress           netip.Addr
	IPPrefixLen         int
	IPv6Gateway         netip.Addr
	MacAddress          network.HardwareAddr
}

func containerRows() []Row {
	return []Row{
		body("ContainerCreate", 52, endpointMAC),
		body("ContainerCreate", 46, func(r *CreateRequest) {
			eachMount(r, func(m *mount.Mount) {
				if m.TmpfsOptions != nil {
					m.TmpfsOptions.Options = nil
				}
			})
		}),
		{Operation: "ContainerCreate", Below: V1(44), Refuse: oneNetwork},
		body("ContainerCreate", 44, func(r *CreateRequest) {
			if r.Config != nil && r.Healthcheck != nil {
				r.Healthcheck.StartInterval = 0
			}
			// Read-only binds were not recursive.
			r.ReadOnlyNonRecursive = true
			eachMount(r, func(m *mount.Mount) {
				if m.Type == mount.TypeBind && m.ReadOnly {
					if m.BindOptions == nil {
						m.BindOptions = &mount.BindOptions{}
					}
					m.BindOptions.ReadOnlyNonRecursive = true
				}
			})
		}),
		body("ContainerCreate", 43, func(r *CreateRequest) {
			if r.HostConfig != nil {
				r.HostConfig.Annotations = nil
			}
		}),
		body("ContainerCreate", 42, func(r *CreateRequest) {
			if r.HostConfig != nil {
				r.HostConfig.ConsoleSize = [2]uint{}
			}
			eachMount(r, func(m *mount.Mount) {
				if m.BindOptions != nil {
					m.BindOptions.CreateMountpoint = false
				}
			})
		}),
		query("ContainerCreate", 41, drop("platform")),
		body("ContainerCreate", 41, func(r *CreateRequest) {
			if r.HostConfig != nil && r.HostConfig.CgroupnsMode == container.CgroupnsModeEmpty {
				r.HostConfig.CgroupnsMode = container.CgroupnsModeHost
			}
		}),
		body("ContainerCreate", 40, func(r *CreateRequest) {
			if r.HostConfig == nil {
				return
			}
			if r.HostConfig.IpcMode.IsEmpty() {
				r.HostConfig.IpcMode = container.IPCModeShareable
			}
			r.HostConfig.PidsLimit = positive(r.HostConfig.PidsLimit)
			eachMount(r, func(m *mount.Mount) {
				if m.BindOptions != nil {
					m.BindOptions.NonRecursive = false
				}
			})
		}),

		body("ContainerUpdate", 40, func(u *engine.UpdateConfig) { u.PidsLimit = nil }), // was ignored

		query("ContainerStop", 42, drop("signal")),
		query("ContainerRestart", 42, drop("signal")),
		query("ContainerStats", 41, drop("one-shot")),
		query("ContainerWait", 30, drop("condition")),
		body("ExecCreate", 42, func(r *container.ExecCreateRequest) { r.ConsoleSize = nil }),
		body("ExecCreate", 25, func(r *container.ExecCreateRequest) { r.Env = nil }),
		body("ExecStart", 42, func(r *container.ExecStartRequest) { r.ConsoleSize = nil }),

		each("ContainerList", 52, func(s *container.Summary) { s.Health = nil }),
		each("ContainerList", 48, func(s *container.Summary) { s.ImageManifestDescriptor = nil }),
		each("ContainerList", 46, func(s *container.Summary) { s.HostConfig.Annotations = nil }),

		response("ContainerInspect", 52, legacyInspect),
		response("ContainerInspect", 48, func(r *containerInspect) any {
			r.ImageManifestDescriptor = nil
			return r
		}),
		response("ContainerInspect", 45, shortIDAliases),
	}
}

// oneNetwork refuses a container that is to be on several networks from the start.
func oneNetwork(v any) error {
	r, ok := v.(*CreateRequest)
	if !ok || r.NetworkingConfig == nil || len(r.NetworkingConfig.EndpointsConfig) < 2 {
		return nil
	}
	names := slices.Sorted(maps.Keys(r.NetworkingConfig.EndpointsConfig))
	return errdefs.Invalidf("Container cannot be created with multiple network endpoints: %s", strings.Join(names, ", "))
}

func eachMount(r *CreateRequest, f func(*mount.Mount)) {
	if r.HostConfig == nil {
		return
	}
	for i := range r.HostConfig.Mounts {
		f(&r.HostConfig.Mounts[i])
	}
}

// endpointMAC moves the container-wide address to the endpoint of the network
// that the container's mode names.
func endpointMAC(r *CreateRequest) {
	if len(r.MacAddress) == 0 {
		return
	}
	mode := network.NetworkDefault
	if r.HostConfig != nil && r.HostConfig.NetworkMode != "" {
		mode = string(r.HostConfig.NetworkMode)
	}
	if !container.NetworkMode(mode).IsPrivate() || container.NetworkMode(mode).IsNone() {
		return
	}
	if r.NetworkingConfig == nil {
		r.NetworkingConfig = &network.NetworkingConfig{}
	}
	if r.NetworkingConfig.EndpointsConfig == nil {
		r.NetworkingConfig.EndpointsConfig = make(map[string]*network.EndpointSettings)
	}
	ep := r.NetworkingConfig.EndpointsConfig[mode]
	if ep == nil {
		ep = &network.EndpointSettings{}
		r.NetworkingConfig.EndpointsConfig[mode] = ep
	}
	if len(ep.MacAddress) == 0 {
		ep.MacAddress = r.MacAddress
	}
}

func positive(limit *int64) *int64 {
	if limit != nil && *limit == 0 {
		return nil
	}
	return limit
}

func legacyInspect(r *engine.InspectResponse) any {
	inner := *r.InspectResponse
	old := engine.InspectResponse{InspectResponse: &inner, HostConfig: r.HostConfig}
	old.Storage = nil
	if old.GraphDriver == nil {
		old.GraphDriver = &storage.DriverData{Name: old.Driver}
	}
	out := &containerInspect{InspectResponse: &old}
	if r.NetworkSettings == nil {
		return out
	}
	out.NetworkSettings = &networkSettings{NetworkSettings: r.NetworkSettings}
	if ep := r.NetworkSettings.Networks[network.NetworkBridge]; ep != nil {
		out.NetworkSettings.defaultEndpoint = &defaultEndpoint{
			EndpointID:          ep.EndpointID,
			Gateway:             ep.Gateway,
			GlobalIPv6Address:   ep.GlobalIPv6Address,
			GlobalIPv6PrefixLen: ep.GlobalIPv6PrefixLen,
			IPAddress:           ep.IPAddress,
			IPPrefixLen:         ep.IPPrefixLen,
			IPv6Gateway:         ep.IPv6Gateway,
			MacAddress:          ep.MacAddress,
		}
	}
	return out
}

// shortIDAliases adds the short id to the aliases in user-defined networks.
func shortIDAliases(r *containerInspect) any {
	if r.NetworkSettings == nil {
		return r
	}
	settings := *r.NetworkSettings.NetworkSettings
	settings.Networks = make(map[string]*network.EndpointSettings, len(r.NetworkSettings.Networks))
	short := ids.Truncate(r.ID)
	for name, ep := range r.NetworkSettings.Networks {
		if ep != nil && container.NetworkMode(name).IsUserDefined() && !slices.Contains(ep.Aliases, short) {
			ep = ep.Copy()
			ep.Aliases = append(ep.Aliases, short)
		}
		settings.Networks[name] = ep
	}
	r.NetworkSettings.NetworkSettings = &settings
	return r
}
