package engine

import (
	"cmp"
	"context"
	"maps"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"lade/internal/engine/prune"
	"lade/internal/errdefs"
	"lade/internal/filters"
)

// NetworkList returns the networks that match.
func (e *Engine) NetworkList(_ context.Context, f filters.Args) ([]network.Summary, error) {
	if err := f.Validate("dangling", "driver", "id", "label", "name", "scope", "type"); err != nil {
		return nil, err
	}
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return nil, err
	}
	for _, kind := range f["type"] {
		if kind != "builtin" && kind != "custom" {
			return nil, errdefs.Invalidf("invalid filter: 'type'='%s'", kind)
		}
	}
	used := e.usedNetworks()
	out := []network.Summary{}
	for _, n := range e.Networks.List() {
		kind := "custom"
		if e.Networks.Predefined(n.Name) {
			kind = "builtin"
		}
		unused := kind == "custom" && !used[n.Name]
		switch {
		case f.Has("dangling") && dangling != unused,
			!f.Exact("driver", n.Driver), !f.Prefix("id", n.ID), !f.Labels("label", n.Labels), !f.Match("name", n.Name),
			!f.Exact("scope", n.Scope), f.Has("type") && !f.Exact("type", kind):
			continue
		}
		out = append(out, n)
	}
	return out, nil
}

// usedNetworks returns the names of the networks that a container is in now.
func (e *host) usedNetworks() map[string]bool {
	used := map[string]bool{}
	for _, id := range e.Networks.Containers() {
		for _, ep := range e.Networks.Endpoints(id) {
			used[ep.NetworkName] = true
		}
	}
	return used
}

// NetworkInspect returns a network with its containers.
func (e *Engine) NetworkInspect(_ context.Context, name string, _ bool) (*network.Inspect, error) {
	return e.Networks.Inspect(name)
}

// NetworkCreate makes a network. Errors: as network.Networks.Create.
func (e *Engine) NetworkCreate(ctx context.Context, q network.CreateRequest) (network.CreateResponse, error) {
	id, err := e.Networks.Create(ctx, e.withDefaults(q))
	if err != nil {
		return network.CreateResponse{}, err
	}
	e.publishNetworkChange(events.ActionCreate, id, q.Name, e.Networks.Driver(q.Name))
	return network.CreateResponse{ID: id}, nil
}

// withDefaults adds the options that the operator has given for all networks of a
// driver, where the request does not say otherwise.
func (e *host) withDefaults(q network.CreateRequest) network.CreateRequest {
	defaults := e.settings().Defaults.NetworkOptions[cmp.Or(q.Driver, "bridge")]
	if len(defaults) == 0 || q.ConfigOnly || q.ConfigFrom != nil {
		return q
	}
	options := maps.Clone(defaults)
	maps.Copy(options, q.Options)
	q.Options = options
	return q
}

func (e *host) publishNetworkChange(action events.Action, id, name, driver string) {
	e.events.Publish(events.NetworkEventType, action, id, map[string]string{"name": name, "type": driver})
}

// NetworkRemove removes a network. Errors: as network.Networks.Remove.
func (e *Engine) NetworkRemove(ctx context.Context, name string) error {
	name, err := e.Networks.Resolve(name)
	if err != nil {
		return err
	}
	id, driver := e.Networks.ID(name), e.Networks.Driver(name)
	if err := e.Networks.Remove(ctx, name); err != nil {
		return err
	}
	e.publishNetworkChange(events.ActionDestroy, id, name, driver)
	return nil
}

// NetworkPrune removes the networks that no container, running or not, is to be
// connected to, and that match the filters until, label and label!.
func (e *Engine) NetworkPrune(ctx context.Context, f filters.Args) (network.PruneReport, error) {
	report := network.PruneReport{}
	until, err := prune.Until(f)
	if err != nil {
		return report, err
	}
	used := e.usedNetworks()
	for _, a := range e.All() {
		for name := range a.View().Networks {
			used[name] = true
		}
	}
	for _, n := range e.Networks.List() {
		if used[n.Name] || n.ConfigOnly || e.Networks.Predefined(n.Name) || !prune.Match(f, until, n.Created, n.Labels) {
			continue
		}
		err := e.NetworkRemove(ctx, n.Name)
		if k := errdefs.KindOf(err); err != nil && k != errdefs.NotFound && k != errdefs.Forbidden {
			return report, err
		}
		if err == nil {
			report.NetworksDeleted = append(report.NetworksDeleted, n.Name)
		}
	}
	e.events.Publish(events.NetworkEventType, events.ActionPrune, "", map[string]string{"reclaimed": "0"})
	return report, nil
}
