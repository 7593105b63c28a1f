package engine

import (
	"context"

	apicontainer "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/netrate"
)

// The API's types with what lade has beside Docker's fields. Each embeds
// Docker's type, so that the JSON is flat; a client that knows nothing of lade
// neither sends nor sees a difference.

// HostConfig is that of ContainerCreate.
type HostConfig struct {
	apicontainer.HostConfig
	netrate.Asked
}

// UpdateConfig is the request of ContainerUpdate.
type UpdateConfig struct {
	apicontainer.UpdateConfig
	netrate.Asked
	Changes
	Republish
}

// InspectResponse is the answer of ContainerInspect. Its HostConfig covers
// Docker's, and always has the limits that hold.
type InspectResponse struct {
	*apicontainer.InspectResponse
	HostConfig *HostConfig `json:",omitempty"`
}

// askedRates joins what the request asks for with its annotations, which are
// what Docker's client can send. Errors: Invalid, also for a container without
// an interface of its own.
func (e *host) askedRates(hc *apicontainer.HostConfig, fields netrate.Asked) (netrate.Asked, error) {
	annotated, err := netrate.FromAnnotations(hc.Annotations)
	if err != nil {
		return fields, err
	}
	a := fields.Over(annotated)
	return a, e.checkRates(hc, a)
}

func (e *host) checkRates(hc *apicontainer.HostConfig, a netrate.Asked) error {
	if mode := hc.NetworkMode; !mode.IsContainer() {
		_, err := e.Networks.Limits(string(mode), a)
		if errdefs.KindOf(err) == errdefs.NotFound {
			return nil // start says so
		}
		return err
	}
	if a.Any() {
		return errdefs.Invalidf("conflicting options: network rates and the container type network mode")
	}
	return nil
}

// limitNetwork changes the limits of a container that runs; undo brings the
// former ones back.
func (e *host) limitNetwork(ctx context.Context, r *container.Record) (undo func(context.Context) error, err error) {
	undo = func(context.Context) error { return nil }
	ep, ok := e.Networks.Endpoint(r.ID)
	if !ok || r.NetRates == (netrate.Asked{}) {
		return undo, nil
	}
	if err := e.Networks.Limit(ctx, r.ID, r.NetRates); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return e.Networks.Limit(ctx, r.ID, ep.Limits.Asked()) }, nil
}

// rates are the limits that hold for a container, or would if it ran.
func (e *host) rates(r *container.Record) netrate.Limits {
	if ep, ok := e.Networks.Endpoint(r.ID); ok {
		return ep.Limits
	}
	if r.HostConfig.NetworkMode.IsContainer() {
		return netrate.Limits{}
	}
	l, err := e.Networks.Limits(string(r.HostConfig.NetworkMode), r.NetRates)
	if err != nil { // its network is gone
		return r.NetRates.Limits(netrate.Limits{})
	}
	return l
}
