package engine

import (
	"maps"
	"slices"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/filters"
)

// listFilters are the filters that a container list understands.
var listFilters = [...]string{
	"ancestor", "annotation", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network", "publish", "since", "status", "volume",
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
	linkNames     map[string][]string // by the ids of containers
}

func (e *Engine) listQuery(o ListOptions) (*query, error) {
	f := o.Filters
	if err := f.Validate(listFilters[:]...); err != nil {
		return nil, err
	}
	q := &query{filters: f, all: o.All || o.Limit > 0 || f.Has("status") || f.Has("exited") || f.Has("before") || f.Has("since")}
	q.linkNames = e.linkNames()
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
		f.Has("name") && !q.named("/"+r.Name) && !slices.ContainsFunc(q.linkNames[r.ID], q.named),
		!f.Labels("label", r.Config.Labels),
		!f.Labels("annotation", r.HostConfig.Annotations),
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

// named reports whether a name is asked for, with its first slash or without.
func (q *query) named(name string) bool {
	return q.filters.Match("name", name[1:]) || q.filters.Match("name", name)
}

func anyPort(wanted map[network.Port]bool, have func(func(network.Port) bool)) bool {
	for p := range have {
		if wanted[p] {
			return true
		}
	}
	return false
}
