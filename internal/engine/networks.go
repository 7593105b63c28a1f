package engine

import (
	"context"

	"github.com/moby/moby/api/types/network"

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
	out := []network.Summary{}
	for _, n := range e.Networks.List() {
		switch {
		case f.Has("dangling") && dangling, // the predefined ones never are
			!f.Exact("driver", n.Driver), !f.Prefix("id", n.ID), !f.Labels("label", n.Labels), !f.Match("name", n.Name),
			!f.Exact("scope", n.Scope), f.Has("type") && !f.Exact("type", "builtin"):
			continue
		}
		out = append(out, n)
	}
	return out, nil
}

// NetworkInspect returns a network with its containers.
func (e *Engine) NetworkInspect(_ context.Context, name string, _ bool) (*network.Inspect, error) {
	return e.Networks.Inspect(name)
}
