package engine

import (
	"context"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/engine/container"
	"lade/internal/engine/spec"
	"lade/internal/errdefs"
	"lade/internal/filters"
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
	hc.Annotations = e.annotations(r.ID, hc.Annotations)
	out := &InspectResponse{HostConfig: &HostConfig{hc, e.rates(r).Asked()}}
	out.InspectResponse = &apicontainer.InspectResponse{
		ID: r.ID, Created: r.Created.Format(time.RFC3339Nano), Path: r.Path, Args: r.Args, Image: r.ImageID, Name: "/" + r.Name,
		RestartCount: r.RestartCount, Driver: r.Driver, Platform: "linux", Config: r.Config,
		ProcessLabel: e.labels(r).Process, MountLabel: e.labels(r).Mount,
		AppArmorProfile: spec.AppArmorProfile(r.HostConfig, e.Facts, e.settings().Defaults.Security),
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
	out.ImageManifestDescriptor = e.manifestOf(r)
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

// ContainerList returns the containers that match, newest first. Errors:
// Invalid for a bad filter.
func (e *Engine) ContainerList(ctx context.Context, o ListOptions) ([]apicontainer.Summary, error) {
	q, err := e.listQuery(o)
	if err != nil {
		return nil, err
	}
	chosen := make([]*container.Record, 0, 64)
	for _, a := range e.containers.all() {
		r := a.View()
		if r.State == container.Gone || !q.match(e, r) {
			continue
		}
		chosen = append(chosen, r)
		if o.Limit > 0 && len(chosen) == o.Limit {
			break
		}
	}
	out := make([]apicontainer.Summary, 0, len(chosen))
	manifests := map[string]*ocispec.Descriptor{} // many containers have few images
	for _, r := range chosen {
		m, ok := manifests[r.ImageID]
		if !ok {
			m = e.manifestOf(r)
			manifests[r.ImageID] = m
		}
		s := e.summary(r, m)
		if o.Size {
			if s.SizeRw, s.SizeRootFs, err = e.Sizes(ctx, r); err != nil && errdefs.KindOf(err) != errdefs.NotFound {
				return nil, err
			}
		}
		out = append(out, s)
	}
	return out, nil
}

// Summary is a container as lists show it.
func (e *viewer) Summary(r *container.Record) apicontainer.Summary {
	return e.summary(r, e.manifestOf(r))
}

func (e *viewer) summary(r *container.Record, manifest *ocispec.Descriptor) apicontainer.Summary {
	s := apicontainer.Summary{
		ID: r.ID, Names: []string{"/" + r.Name}, Image: r.Config.Image, ImageID: r.ImageID,
		Command: commandLine(r), Created: r.Created.Unix(), Ports: []apicontainer.PortSummary{}, Labels: r.Config.Labels,
		State: r.API(), Status: status(r, time.Now()), Mounts: mountPoints(r),
		NetworkSettings: &apicontainer.NetworkSettingsSummary{Networks: e.endpointSettings(r)},
	}
	s.Health = &apicontainer.HealthSummary{Status: r.HealthStatus()}
	if r.Health != nil {
		s.Health.FailingStreak = r.Health.FailingStreak
	}
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	s.HostConfig.NetworkMode = string(r.HostConfig.NetworkMode)
	s.HostConfig.Annotations = e.annotations(r.ID, r.HostConfig.Annotations)
	s.ImageManifestDescriptor = manifest
	if r.State.Alive() {
		s.Ports = e.ports(r)
	}
	return s
}

// commandLine is the command as lists show it.
func commandLine(r *container.Record) string {
	parts := append([]string{r.Path}, r.Args...)
	for i, p := range parts {
		if strings.ContainsAny(p, " ") {
			parts[i] = "'" + p + "'"
		}
	}
	return strings.Join(parts, " ")
}

// ports are a container's ports, exposed and published, in a stable order.
func (e *viewer) ports(r *container.Record) []apicontainer.PortSummary {
	out := []apicontainer.PortSummary{}
	ep, ok := e.Networks.Endpoint(r.ID)
	if !ok {
		return out
	}
	for p := range r.Config.ExposedPorts {
		if len(ep.Ports[p]) == 0 {
			out = append(out, apicontainer.PortSummary{PrivatePort: p.Num(), Type: string(p.Proto())})
		}
	}
	for p, bindings := range ep.Ports {
		for _, b := range bindings {
			n, ok := atoi16(b.HostPort)
			if !ok {
				continue
			}
			out = append(out, apicontainer.PortSummary{IP: b.HostIP, PrivatePort: p.Num(), PublicPort: n, Type: string(p.Proto())})
		}
	}
	slices.SortFunc(out, func(a, b apicontainer.PortSummary) int {
		if c := int(a.PrivatePort) - int(b.PrivatePort); c != 0 {
			return c
		}
		if c := strings.Compare(a.Type, b.Type); c != 0 {
			return c
		}
		return compareAddr(a.IP, b.IP)
	})
	return out
}

func compareAddr(a, b netip.Addr) int { return a.Compare(b) }

// status is a container's state in words, as lists show it.
func status(r *container.Record, now time.Time) string {
	since := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) }
	if r.Returning() {
		return "Restarting (" + itoa(r.ExitCode) + ") " + since(r.FinishedAt) + " ago"
	}
	switch r.State {
	case container.Running:
		switch h := r.HealthStatus(); h {
		case apicontainer.NoHealthcheck:
		case apicontainer.Starting:
			return "Up " + since(r.StartedAt) + " (health: starting)"
		default:
			return "Up " + since(r.StartedAt) + " (" + string(h) + ")"
		}
		return "Up " + since(r.StartedAt)
	case container.Paused:
		return "Up " + since(r.StartedAt) + " (Paused)"
	case container.Removing:
		return "Removal In Progress"
	case container.Dead:
		return "Dead"
	}
	if r.StartedAt.IsZero() {
		return "Created"
	}
	if r.FinishedAt.IsZero() {
		return ""
	}
	return "Exited (" + itoa(r.ExitCode) + ") " + since(r.FinishedAt) + " ago"
}

// listFilters are the filters that a container list understands.
var listFilters = [...]string{
	"ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network", "publish", "since", "status", "volume",
}

// query is a list request, read.
type query struct {
	filters       filters.Args
	all           bool
	before, since time.Time
	exited        map[int]bool
	images        map[string]bool
	published     map[network.Port]bool
	exposed       map[network.Port]bool
}

func (e *Engine) listQuery(o ListOptions) (*query, error) {
	f := o.Filters
	if err := f.Validate(listFilters[:]...); err != nil {
		return nil, err
	}
	q := &query{filters: f, all: o.All || o.Limit > 0 || f.Has("status") || f.Has("exited") || f.Has("before") || f.Has("since")}
	for _, s := range f["status"] {
		if err := apicontainer.ValidateContainerState(apicontainer.ContainerState(s)); err != nil {
			return nil, errdefs.Invalidf("invalid filter 'status=%s': %w", s, err)
		}
	}
	for _, s := range f["health"] {
		if err := apicontainer.ValidateHealthStatus(apicontainer.HealthStatus(s)); err != nil {
			return nil, errdefs.Invalidf("invalid filter 'health=%s': %w", s, err)
		}
	}
	for _, s := range f["exited"] {
		n, ok := atoi(s)
		if !ok {
			return nil, errdefs.Invalidf("invalid filter 'exited=%s'", s)
		}
		if q.exited == nil {
			q.exited = map[int]bool{}
		}
		q.exited[n] = true
	}
	if _, err := f.Bool("is-task", false); err != nil {
		return nil, err
	}
	for key, t := range map[string]*time.Time{"before": &q.before, "since": &q.since} {
		for _, name := range f[key] {
			a, err := e.containers.find(name)
			if err != nil {
				return nil, err
			}
			*t = a.View().Created
		}
	}
	if f.Has("ancestor") {
		q.images = map[string]bool{}
		for _, name := range f["ancestor"] {
			q.images[name] = true
			if img, err := e.Images.Resolve(name); err == nil {
				q.images[img.ID.String()] = true
			}
		}
	}
	var err error
	if q.published, err = portFilter(f["publish"]); err != nil {
		return nil, err
	}
	q.exposed, err = portFilter(f["expose"])
	return q, err
}

// portFilter reads ports and ranges with their protocol.
func portFilter(values []string) (map[network.Port]bool, error) {
	if len(values) == 0 {
		return nil, nil
	}
	out := map[network.Port]bool{}
	for _, v := range values {
		rng, err := network.ParsePortRange(v)
		if err != nil {
			return nil, errdefs.Invalidf("while looking up '%s': %w", v, err)
		}
		for p := range rng.All() {
			out[p] = true
		}
	}
	return out, nil
}

func (q *query) match(e *Engine, r *container.Record) bool {
	f := q.filters
	switch {
	case !q.all && !r.State.Alive() && !r.Returning(),
		f.Has("status") && !slices.Contains(f["status"], string(r.API())),
		f.Has("id") && !f.Prefix("id", r.ID),
		f.Has("name") && !f.Match("name", r.Name) && !f.Match("name", "/"+r.Name),
		!f.Labels("label", r.Config.Labels),
		!q.before.IsZero() && !r.Created.Before(q.before),
		!q.since.IsZero() && !r.Created.After(q.since),
		q.exited != nil && (r.State.Alive() || !q.exited[r.ExitCode] || r.StartedAt.IsZero()),
		q.images != nil && !q.images[r.ImageID] && !q.images[r.Config.Image],
		f.Has("health") && !f.Exact("health", string(r.HealthStatus())),
		f.Has("is-task") && !f.Exact("is-task", "false"):
		return false
	}
	if f.Has("volume") && !slices.ContainsFunc(r.Mounts, func(m container.Mount) bool {
		return f.Exact("volume", m.Name) || f.Exact("volume", m.Destination)
	}) {
		return false
	}
	if f.Has("network") {
		found := false
		for name := range r.Networks {
			id := e.Networks.ID(name)
			found = found || f.Exact("network", name) || id != "" && f.Prefix("network", id)
		}
		if !found {
			return false
		}
	}
	if q.exposed != nil && !anyPort(q.exposed, maps.Keys(r.Config.ExposedPorts)) {
		return false
	}
	if q.published != nil && !slices.ContainsFunc(e.ports(r), func(p apicontainer.PortSummary) bool {
		port, ok := network.PortFrom(p.PublicPort, network.IPProtocol(p.Type))
		return ok && q.published[port]
	}) {
		return false
	}
	return true
}

func anyPort(wanted map[network.Port]bool, have func(func(network.Port) bool)) bool {
	for p := range have {
		if wanted[p] {
			return true
		}
	}
	return false
}
