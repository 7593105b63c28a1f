package network

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"strconv"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// List returns the networks, without their containers.
func (n *Networks) List() []network.Summary {
	var out []network.Summary
	for _, name := range n.names() {
		if d, ok := n.describe(name); ok {
			out = append(out, network.Summary{Network: d})
		}
	}
	return out
}

// describe returns what the API says of a network, in Docker's words.
func (n *Networks) describe(name string) (network.Network, bool) {
	n.mu.Lock()
	r, ok := n.records[name]
	b := n.bridges[name]
	n.mu.Unlock()
	d := network.Network{
		Name: name, ID: r.ID, Created: r.Created, Scope: "local", Driver: name, EnableIPv4: true,
		IPAM: network.IPAM{Driver: "default"}, Options: map[string]string{}, Labels: map[string]string{},
	}
	switch {
	case r.User != nil:
		u := r.User
		d.Driver, d.Internal, d.Attachable = u.Driver, u.Internal, u.Attachable
		d.ConfigFrom.Network = u.From
		if u.Held != nil {
			d.ConfigOnly, d.EnableIPv4, d.EnableIPv6 = true, u.Held.IPv4, u.Held.IPv6
		} else {
			d.EnableIPv4, d.EnableIPv6 = b.v4.subnet.IsValid(), b.v6.subnet.IsValid()
		}
		d.IPAM.Driver, d.IPAM.Config, d.IPAM.Options = cmp.Or(u.IPAMDriver, "default"), u.Pools, map[string]string{}
		maps.Copy(d.IPAM.Options, u.IPAMOptions)
		maps.Copy(d.Options, u.Options)
		maps.Copy(d.Labels, u.Labels)
	case name == network.NetworkNone:
		d.Driver = "null"
	case name == network.NetworkBridge:
		c := network.IPAMConfig{Subnet: b.v4.subnet, Gateway: b.v4.gateway}
		if n.c.FixedCIDR.IsValid() {
			c.IPRange = n.c.FixedCIDR.Masked()
		}
		d.IPAM.Config = []network.IPAMConfig{c}
		if b.v6.subnet.IsValid() {
			six := network.IPAMConfig{Subnet: b.v6.subnet, Gateway: b.v6.gateway}
			if n.c.FixedCIDR6.IsValid() && n.c.FixedCIDR6.Masked() != b.v6.subnet {
				six.IPRange = n.c.FixedCIDR6.Masked()
			}
			d.EnableIPv6, d.IPAM.Config = true, append(d.IPAM.Config, six)
		}
		d.Options = map[string]string{
			"com.docker.network.bridge.default_bridge": "true",
			optICC:  strconv.FormatBool(n.c.ICC),
			optMasq: strconv.FormatBool(n.c.IPMasq),
			optBind: n.c.DefaultBind.String(),
			optLink: n.c.Bridge,
			optMTU:  strconv.Itoa(b.mtu),
		}
		maps.Copy(d.Options, b.limits.Options())
	}
	return d, ok
}

// Inspect returns a network and its containers. Errors: as Resolve.
func (n *Networks) Inspect(name string) (*network.Inspect, error) {
	name, err := n.Resolve(name)
	if err != nil {
		return nil, err
	}
	d, ok := n.describe(name)
	if !ok {
		return nil, errdefs.NotFoundf("network %s not found", name)
	}
	in := &network.Inspect{Network: d, Containers: map[string]network.EndpointResource{}}
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, c := range n.containers {
		if e := c.in(name); e != nil {
			in.Containers[id] = network.EndpointResource{
				Name: c.Name, EndpointID: e.ID, MacAddress: network.HardwareAddr(e.mac()), IPv4Address: e.IPv4, IPv6Address: e.IPv6,
			}
		}
	}
	return in, nil
}

// OnChange has f called with the name of a network after each change of what
// Members returns for it, from the goroutine that made the change, which waits.
// It is called once, before the first Connect.
func (n *Networks) OnChange(f func(network string)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.changed = f
}

// tell calls what OnChange was given.
func (n *Networks) tell(networks ...string) {
	n.mu.Lock()
	f := n.changed
	n.mu.Unlock()
	if f == nil {
		return
	}
	for _, name := range networks {
		f(name)
	}
}

// HostGateway returns the addresses of the default bridge, IPv4 first, for which
// "host-gateway" stands; none without that bridge.
func (n *Networks) HostGateway() (out []netip.Addr) {
	if n.def == nil {
		return nil
	}
	for _, s := range []side{n.def.v4, n.def.v6} {
		if a := s.address.Addr(); a.IsValid() {
			out = append(out, a)
		}
	}
	return out
}

// Endpoint returns a container's first endpoint, without NetNS.
func (n *Networks) Endpoint(containerID string) (*Endpoint, bool) {
	all := n.Endpoints(containerID)
	if len(all) == 0 {
		return nil, false
	}
	return all[0], true
}

// Endpoints returns a container's endpoints, without NetNS, in the order in
// which they were made.
func (n *Networks) Endpoints(containerID string) []*Endpoint {
	c, ok := n.record(containerID)
	if !ok {
		return nil
	}
	var out []*Endpoint
	for _, e := range c.Endpoints {
		out = append(out, n.endpoint(c, e))
	}
	return out
}

// Connection stands for how a container is connected: two of one container are
// equal as long as Endpoints answers the same for it.
type Connection struct{ record *containerRecord }

func (n *Networks) endpoint(c *containerRecord, r *endpointRecord) *Endpoint {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := &Endpoint{
		NetworkID: n.records[r.Network].ID, NetworkName: r.Network, Driver: n.driverLocked(r.Network), EndpointID: r.ID, SandboxID: c.Sandbox,
		Interface: r.Inside, MAC: r.mac(), IPv4: r.IPv4, IPv6: r.IPv6, Aliases: r.Aliases, Ports: c.portMap(), Published: c.published(), Limits: r.Limits,
	}
	if b := n.bridges[r.Network]; b != nil && !b.internal {
		e.Gateway, e.Gateway6 = via(b.gatewayFor(r, false)), via(b.gatewayFor(r, true))
	}
	return e
}

// via returns a gateway; zero where the default route is the interface.
func via(gateway netip.Addr) netip.Addr {
	if gateway.IsUnspecified() {
		return netip.Addr{}
	}
	return gateway
}

// Rename tells Inspect the new name of a container, if it is connected.
func (n *Networks) Rename(containerID, name string) error {
	n.mu.Lock()
	c, ok := n.containers[containerID]
	if !ok || c.Name == name {
		n.mu.Unlock()
		return nil
	}
	renamed := *c
	renamed.Name = name
	n.containers[containerID] = &renamed
	n.mu.Unlock()
	n.tell(renamed.networks()...)
	return renamed.put(n.c.Store, containerID)
}

// networks returns the names of the networks that a container is in.
func (c *containerRecord) networks() []string {
	out := make([]string, len(c.Endpoints))
	for i, e := range c.Endpoints {
		out[i] = e.Network
	}
	return out
}

// count returns the counters of one interface. Errors: ENODEV.
func (n *Networks) count(e *endpointRecord) (c Counters, err error) {
	switch {
	case e.Kind != "":
		l, err := n.rt.LinkOf(e.NSID, e.Inside)
		if errors.Is(err, unix.EINVAL) { // its namespace is gone
			err = unix.ENODEV
		}
		return inner(l.Stats), err
	case e.Link == "":
		return c, unix.ENODEV
	}
	l, err := n.rt.Link(0, e.Link)
	c = counters(l.Stats)
	c.subtract(e.Noise)
	return c, err
}

// Stats returns the counters of a container's interfaces by their names inside
// (eth0); none on host and none. They are read from the host's end of the
// pair, where each packet counts in the other direction, or in the container's
// namespace by its number.
// Errors: NotFound for a container that is not connected.
func (n *Networks) Stats(containerID string) (map[string]Counters, error) {
	c, ok := n.record(containerID)
	if !ok {
		return nil, errdefs.NotFoundf("container %s is not connected", containerID)
	}
	out := map[string]Counters{}
	for _, e := range c.Endpoints {
		count, err := n.count(e)
		switch {
		case errors.Is(err, unix.ENODEV): // without an interface, or the container has just ended
		case err != nil:
			return nil, err
		default:
			out[e.Inside] = count
		}
	}
	return out, nil
}
