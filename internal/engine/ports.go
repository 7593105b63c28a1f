package engine

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	nets "lade/internal/network"
	"lade/internal/publish"
)

// Republish is what ContainerUpdate changes of the published ports. A binding to
// remove needs as much as tells it from others; none removes all of that port.
type Republish struct {
	PublishAdd publish.Ports `json:",omitempty"`
	PublishRm  publish.Ports `json:",omitempty"`
}

// bindings are all that a container publishes, -P included.
func bindings(c *apicontainer.Config, hc *apicontainer.HostConfig) network.PortMap {
	if !hc.PublishAllPorts {
		return hc.PortBindings
	}
	all := maps.Clone(hc.PortBindings)
	if all == nil {
		all = network.PortMap{}
	}
	for p := range c.ExposedPorts {
		if _, bound := all[p]; !bound {
			all[p] = nil
		}
	}
	return all
}

// checkPublish refuses annotations about ports that cannot be, and drops those
// that say what held for a container of which this is a copy.
func checkPublish(c *apicontainer.Config, hc *apicontainer.HostConfig) error {
	held := func(name, _ string) bool { return strings.HasPrefix(name, publish.Held) }
	hc.Annotations = maps.Clone(hc.Annotations)
	maps.DeleteFunc(hc.Annotations, held)
	return publish.Check(hc.Annotations, bindings(c, hc))
}

// published lists the ports to publish: those bound, and with -P every other
// exposed one. Errors: Invalid for a malformed binding.
func published(r *container.Record) ([]nets.Publish, error) {
	var out []nets.Publish
	if r.HostConfig.NetworkMode.IsHost() || r.HostConfig.NetworkMode.IsNone() {
		return nil, nil
	}
	for p, list := range bindings(r.Config, r.HostConfig) {
		if len(list) == 0 {
			list = []network.PortBinding{{}}
		}
		for _, b := range list {
			q := nets.Publish{Proto: string(p.Proto()), Port: p.Num(), HostIP: b.HostIP}
			if b.HostPort != "" {
				var ok bool
				if q.HostPort, q.HostPortEnd, ok = hostPorts(b.HostPort); !ok {
					return nil, errdefs.Invalidf("invalid port specification: %q", b.HostPort)
				}
			}
			o, err := publish.Of(r.HostConfig.Annotations, p, b)
			if err != nil {
				return nil, err
			}
			q.Policy, q.From = o.Policy, o.From
			out = append(out, q)
		}
	}
	return out, nil
}

// hostPorts reads "80" or "80-90".
func hostPorts(s string) (first, last uint16, ok bool) {
	from, to, ranged := strings.Cut(s, "-")
	if !ranged {
		to = from
	}
	first, ok1 := atoi16(from)
	last, ok2 := atoi16(to)
	return first, last, ok1 && ok2 && last >= first
}

// annotations are a container's, and those that say how its ports are published
// where that is not Docker's way.
func (e *viewer) annotations(id string, said map[string]string) map[string]string {
	ep, ok := e.Networks.Endpoint(id)
	if !ok {
		return said
	}
	var own map[string]string
	for _, p := range ep.Published {
		port, ok := network.PortFrom(p.Port, network.IPProtocol(p.Proto))
		if !ok || p.Policy == nets.PolicyDNAT && p.From == nil {
			continue
		}
		if own == nil { // what was said is not ours to change
			own = map[string]string{}
			maps.Copy(own, said)
		}
		name := publish.Port{HostIP: p.HostIP, HostPort: itoa(int(p.HostPort)), Port: port}.Annotation()
		own[name] = publish.Options{Policy: p.Policy, From: p.From}.String()
	}
	if own == nil {
		return said
	}
	return own
}

// changePorts changes what a record says of published ports. Errors: NotFound
// for one to remove that is not there, Conflict for one to add that is, Invalid.
func (e *host) changePorts(next *container.Record, u Republish) error {
	if len(u.PublishAdd)+len(u.PublishRm) == 0 {
		return nil
	}
	hc := next.HostConfig
	if m := hc.NetworkMode; m.IsHost() || m.IsNone() || m.IsContainer() {
		return errdefs.Invalidf("conflicting options: port publishing and the network mode %s", m)
	}
	hc.PortBindings, hc.Annotations = maps.Clone(hc.PortBindings), maps.Clone(hc.Annotations)
	if hc.PortBindings == nil {
		hc.PortBindings = network.PortMap{}
	}
	if hc.Annotations == nil {
		hc.Annotations = map[string]string{}
	}
	for p, list := range u.PublishRm {
		if len(list) == 0 {
			list = []publish.Binding{{}}
		}
		for _, b := range list {
			if err := e.unpublish(next, p, b.PortBinding); err != nil {
				return err
			}
		}
	}
	for p, list := range u.PublishAdd {
		if len(list) == 0 {
			list = []publish.Binding{{}}
		}
		for _, b := range list {
			if b.HostPort != "" && slices.Contains(hc.PortBindings[p], b.PortBinding) {
				return errdefs.Conflictf("port %s is published already", publish.Name(p, b.PortBinding))
			}
			hc.PortBindings[p] = append(slices.Clone(hc.PortBindings[p]), b.PortBinding)
			if !b.Empty() {
				hc.Annotations[publish.All+"."+publish.Name(p, b.PortBinding)] = b.String()
			}
		}
	}
	if err := publish.Check(hc.Annotations, bindings(next.Config, hc)); err != nil {
		return err
	}
	_, err := published(next)
	return err
}

// unpublish removes the bindings that match one.
func (e *host) unpublish(next *container.Record, p network.Port, b network.PortBinding) error {
	hc := next.HostConfig
	var stay, gone []network.PortBinding
	for _, have := range hc.PortBindings[p] {
		if (!b.HostIP.IsValid() || b.HostIP == have.HostIP) && (b.HostPort == "" || b.HostPort == have.HostPort || e.bound(next.ID, p, have, b.HostPort)) {
			gone = append(gone, have)
		} else {
			stay = append(stay, have)
		}
	}
	if gone == nil {
		return errdefs.NotFoundf("port %s of container %s is not published", publish.Name(p, b), next.Name)
	}
	if hc.PortBindings[p] = stay; stay == nil {
		delete(hc.PortBindings, p)
	}
	for _, g := range gone {
		name := publish.All + "." + publish.Name(p, g)
		if !slices.Contains(stay, g) {
			delete(hc.Annotations, name)
			delete(hc.Annotations, strings.TrimSuffix(name, "/tcp"))
		}
	}
	if stay == nil {
		delete(hc.Annotations, publish.All+"."+p.String())
		delete(hc.Annotations, publish.All+"."+strings.TrimSuffix(p.String(), "/tcp"))
	}
	return nil
}

// bound reports whether a binding that left its port to us got this one.
func (e *host) bound(id string, p network.Port, asked network.PortBinding, hostPort string) bool {
	if asked.HostPort != "" && !strings.Contains(asked.HostPort, "-") {
		return false
	}
	ep, ok := e.Networks.Endpoint(id)
	return ok && slices.ContainsFunc(ep.Published, func(q nets.Published) bool {
		ip := asked.HostIP
		return itoa(int(q.HostPort)) == hostPort && q.Port == p.Num() && q.Proto == string(p.Proto()) && (!ip.IsValid() || ip == q.HostIP || ip == netip.IPv4Unspecified())
	})
}

// republish publishes what the record says now; undo brings back what was.
func (e *host) republish(ctx context.Context, r *container.Record) (undo func(context.Context) error, err error) {
	undo = func(context.Context) error { return nil }
	if r.HostConfig.NetworkMode.IsContainer() {
		return undo, nil
	}
	asked, err := published(r)
	if err != nil {
		return nil, err
	}
	was, err := e.Networks.Republish(ctx, r.ID, asked)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		_, err := e.Networks.Republish(ctx, r.ID, was)
		return err
	}, nil
}
