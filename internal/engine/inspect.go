package engine

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"

	"lade/internal/engine/container"
	"lade/internal/engine/spec"
	"lade/internal/ids"
	nets "lade/internal/network"
)

// ContainerInspect returns all that is known of a container; size adds its
// disk usage. It never waits for the container.
func (e *Engine) ContainerInspect(ctx context.Context, name string, size bool) (*InspectResponse, error) {
	a, err := e.containers.find(name)
	if err != nil {
		return nil, err
	}
	r := a.View()
	hc := *shownHostConfig(r)
	if !hc.Privileged { // which paths they are the kernel has a say in: they are not kept
		if hc.MaskedPaths == nil {
			hc.MaskedPaths = spec.MaskedPaths(e.Facts)
		}
		if hc.ReadonlyPaths == nil {
			hc.ReadonlyPaths = spec.ReadonlyPaths()
		}
	}
	hc.Annotations = e.annotations(r.ID, hc.Annotations)
	out := &InspectResponse{HostConfig: &HostConfig{hc, e.rates(r).Asked()}}
	out.InspectResponse = &apicontainer.InspectResponse{
		ID: r.ID, Created: r.Created.Format(time.RFC3339Nano), Path: r.Path, Args: r.Args, Image: r.ImageID, Name: "/" + r.Name,
		RestartCount: r.RestartCount, Driver: r.Driver, Platform: "linux", Config: r.Config,
		ProcessLabel: e.labels(r).Process, MountLabel: e.labels(r).Mount,
		AppArmorProfile: e.appArmor(r),
		Mounts:          mountPoints(r), ExecIDs: e.execs.alive(r.ID), NetworkSettings: e.networkSettings(r),
		GraphDriver: e.graphDriver(ctx, r.ID),
		State: &apicontainer.State{
			Status: r.API(), Running: r.State.Alive() || r.Returning(), Paused: r.State == container.Paused,
			Restarting: r.Returning(), OOMKilled: r.OOMKilled, Dead: r.State == container.Dead, Pid: r.Pid,
			ExitCode: r.ExitCode, Error: r.Error, StartedAt: r.StartedAt.Format(time.RFC3339Nano), FinishedAt: r.FinishedAt.Format(time.RFC3339Nano),
		},
	}
	if out.Args == nil {
		out.Args = []string{}
	}
	if !r.StartedAt.IsZero() && !r.HostConfig.NetworkMode.IsContainer() {
		dir := e.dir(r.ID)
		out.ResolvConfPath, out.HostnamePath, out.HostsPath = filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "hostname"), filepath.Join(dir, "hosts")
	}
	if r.HostConfig.LogConfig.Type == "json-file" && !r.StartedAt.IsZero() {
		out.LogPath, _, _ = e.logFile(r)
	}
	if h := r.Health; h != nil {
		out.State.Health = &apicontainer.Health{Status: h.Status, FailingStreak: h.FailingStreak, Log: append([]*apicontainer.HealthcheckResult{}, h.Log...)}
	}
	if img, err := e.imageOf(r); err == nil {
		out.ImageManifestDescriptor = manifestOf(img)
	}
	if size {
		rw, root, err := e.Sizes(ctx, r)
		if err != nil {
			return nil, err
		}
		out.SizeRw, out.SizeRootFs = &rw, &root
	}
	return out, nil
}

func mountPoints(r *container.Record) []apicontainer.MountPoint {
	out := make([]apicontainer.MountPoint, 0, len(r.Mounts))
	for _, m := range r.Mounts {
		out = append(out, m.MountPoint)
	}
	return out
}

func (e *viewer) graphDriver(ctx context.Context, id string) *storage.DriverData {
	d := &storage.DriverData{Name: e.Snapshots.Name(), Data: map[string]string{}}
	root, err := e.Snapshots.Root(ctx, id)
	if err == nil && len(root.Lower) > 0 {
		d.Data["LowerDir"], d.Data["UpperDir"], d.Data["WorkDir"] = strings.Join(root.Lower, ":"), root.Upper, root.Work
		d.Data["ID"] = id
	}
	return d
}

// Sizes returns the bytes of a container's own files, and those with its image.
func (e *viewer) Sizes(ctx context.Context, r *container.Record) (rw, root int64, err error) {
	if rw, err = e.copier.Changed(ctx, r.ID); err != nil {
		return 0, 0, err
	}
	root = rw
	if img, err := e.imageOf(r); err == nil {
		root += img.Size
	}
	return rw, root, nil
}

// networkSettings shows how a container is connected.
func (e *viewer) networkSettings(r *container.Record) *apicontainer.NetworkSettings {
	s := &apicontainer.NetworkSettings{Ports: network.PortMap{}, Networks: e.endpointSettings(r)}
	ep, ok := e.Networks.Endpoint(r.ID)
	if !ok {
		return s
	}
	s.SandboxID = ep.SandboxID
	if r.State.Alive() {
		s.SandboxKey = filepath.Join("/proc", itoa(r.Pid), "ns/net")
	}
	maps.Copy(s.Ports, ep.Ports)
	for p := range r.Config.ExposedPorts {
		if _, ok := s.Ports[p]; !ok {
			s.Ports[p] = nil
		}
	}
	return s
}

// endpointSettings are the networks asked for, with what the present
// connections gave them.
func (e *viewer) endpointSettings(r *container.Record) map[string]*network.EndpointSettings {
	out := make(map[string]*network.EndpointSettings, len(r.Networks))
	connected := e.Networks.Endpoints(r.ID)
	for name, asked := range r.Networks {
		s := *asked
		for _, ep := range connected {
			if ep.NetworkName == name {
				e.showEndpoint(&s, r, ep)
			}
		}
		out[name] = &s
	}
	return out
}

func (e *viewer) showEndpoint(s *network.EndpointSettings, r *container.Record, ep *nets.Endpoint) {
	s.NetworkID, s.EndpointID = ep.NetworkID, ep.EndpointID
	s.Gateway, s.IPv6Gateway = ep.Gateway, ep.Gateway6
	if ep.IPv4.IsValid() {
		s.IPAddress, s.IPPrefixLen = ep.IPv4.Addr(), ep.IPv4.Bits()
	}
	if ep.IPv6.IsValid() {
		s.GlobalIPv6Address, s.GlobalIPv6PrefixLen = ep.IPv6.Addr(), ep.IPv6.Bits()
	}
	s.MacAddress = network.HardwareAddr(ep.MAC)
	s.DNSNames = dnsNames(r, s.Aliases)
}

// dnsNames are what a container is called in one of its networks.
func dnsNames(r *container.Record, aliases []string) []string {
	names := []string{r.Name}
	for _, n := range append(slices.Clone(aliases), ids.Truncate(r.ID), r.Config.Hostname) {
		if n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}
