package remote

import (
	"context"
	"net/netip"

	"lade/internal/errdefs"
	"lade/internal/plugin"
	"lade/internal/trace"
)

// Kind is what such a plugin implements.
const Kind = "NetworkDriver"

// Driver is a network driver by the name of its plugin.
type Driver struct{ p *plugin.Plugin }

// New returns the driver of a name. It looks for nothing yet.
func New(name string, dirs plugin.Dirs) *Driver { return &Driver{plugin.New(name, Kind, dirs)} }

// Close closes idle connections.
func (d *Driver) Close() { d.p.Close() }

// call asks for a method and tells what the driver's own error is. It blocks until
// the answer or the end of ctx. Errors: as plugin.Plugin.Call; Internal, in
// Docker's words, for one that the driver gives.
func (d *Driver) call(ctx context.Context, method string, request any, answer interface{ complaint() string }) error {
	span := trace.Begin(trace.Net, "plugin "+method, d.p.Name())
	err := d.p.Call(ctx, Kind+"."+method, request, answer)
	if err == nil && answer.complaint() != "" {
		err = errdefs.Internalf("remote: %s", answer.complaint())
	}
	return span.End(err)
}

// failure is what every answer may hold.
type failure struct{ Err string }

func (f *failure) complaint() string { return f.Err }

// Pool is a subnet of a network, as the driver is told.
type Pool struct {
	AddressSpace string
	Pool         netip.Prefix
	Gateway      netip.Prefix          `json:",omitzero"`
	AuxAddresses map[string]netip.Addr `json:",omitempty"`
}

// Network is a network as the driver is told.
type Network struct {
	ID         string
	Options    map[string]string // of the creator
	Internal   bool
	IPv4, IPv6 []Pool
}

// CreateNetwork tells of a new network.
func (d *Driver) CreateNetwork(ctx context.Context, n Network) error {
	options := map[string]any{"com.docker.network.generic": n.Options}
	if n.Internal {
		options["com.docker.network.internal"] = true
	}
	if len(n.IPv6) > 0 {
		options["com.docker.network.enable_ipv6"] = true
	}
	return d.call(ctx, "CreateNetwork", map[string]any{
		"NetworkID": n.ID, "Options": options, "IPv4Data": pools(n.IPv4), "IPv6Data": pools(n.IPv6),
	}, &failure{})
}

// pools makes a list of nothing one that JSON writes as such.
func pools(p []Pool) []Pool {
	if p == nil {
		return []Pool{}
	}
	return p
}

// DeleteNetwork tells that a network is removed.
func (d *Driver) DeleteNetwork(ctx context.Context, network string) error {
	return d.call(ctx, "DeleteNetwork", map[string]any{"NetworkID": network}, &failure{})
}

// Interface is what an endpoint has.
type Interface struct {
	Address, AddressIPv6 string // with length; "" without one
	MacAddress           string
}

// Endpoint names an endpoint.
type Endpoint struct{ NetworkID, EndpointID string }

// CreateEndpoint tells of an endpoint and what it has, and returns it with what
// the driver adds; it may not change what is there.
func (d *Driver) CreateEndpoint(ctx context.Context, e Endpoint, i Interface, options map[string]any) (Interface, error) {
	var a struct {
		failure
		Interface *Interface
	}
	err := d.call(ctx, "CreateEndpoint", struct {
		Endpoint
		Interface Interface
		Options   map[string]any
	}{e, i, options}, &a)
	if err != nil || a.Interface == nil {
		return i, err
	}
	for _, f := range []struct{ has, adds *string }{
		{&i.Address, &a.Interface.Address}, {&i.AddressIPv6, &a.Interface.AddressIPv6}, {&i.MacAddress, &a.Interface.MacAddress},
	} {
		switch {
		case *f.adds == "" || *f.adds == *f.has:
		case *f.has != "":
			return i, errdefs.Internalf("remote: the driver changes %s to %s", *f.has, *f.adds)
		default:
			*f.has = *f.adds
		}
	}
	return i, nil
}

// DeleteEndpoint tells that an endpoint is no more.
func (d *Driver) DeleteEndpoint(ctx context.Context, e Endpoint) error {
	return d.call(ctx, "DeleteEndpoint", e, &failure{})
}

// Route is one that an endpoint gets beside that to its subnet.
type Route struct {
	Destination netip.Prefix
	NextHop     netip.Addr // zero: on the link
}

// Joined is what the driver has made of an endpoint.
type Joined struct {
	Link                 string // name of the interface, on the host
	Prefix               string // what its name in the container begins with
	Gateway, GatewayIPv6 netip.Addr
	Routes               []Route
	// NoGateway says that the container has no way out through this network, and
	// wants none.
	NoGateway bool
}

// Join asks for the interface of an endpoint, which will be in a sandbox.
func (d *Driver) Join(ctx context.Context, e Endpoint, sandbox string, options map[string]any) (Joined, error) {
	var a struct {
		failure
		InterfaceName *struct{ SrcName, DstPrefix, DstName string }
		Gateway       string
		GatewayIPv6   string
		StaticRoutes  []struct {
			Destination string
			RouteType   int
			NextHop     string
		}
		DisableGatewayService bool
	}
	err := d.call(ctx, "Join", struct {
		Endpoint
		SandboxKey string
		Options    map[string]any
	}{e, sandbox, options}, &a)
	if err != nil {
		return Joined{}, err
	}
	j := Joined{NoGateway: a.DisableGatewayService}
	if n := a.InterfaceName; n != nil {
		j.Link, j.Prefix = n.SrcName, n.DstPrefix
	}
	if j.Link == "" {
		return j, errdefs.Internalf("remote: the driver names no interface")
	}
	if j.Gateway, err = optional(a.Gateway); err != nil {
		return j, err
	}
	if j.GatewayIPv6, err = optional(a.GatewayIPv6); err != nil {
		return j, err
	}
	for _, r := range a.StaticRoutes {
		dst, err := netip.ParsePrefix(r.Destination)
		if err != nil {
			return j, errdefs.Internalf("remote: the driver's route: %w", err)
		}
		hop, err := optional(r.NextHop)
		if err != nil {
			return j, err
		}
		j.Routes = append(j.Routes, Route{dst.Masked(), hop})
	}
	return j, nil
}

// Leave tells that an endpoint is in its sandbox no more.
func (d *Driver) Leave(ctx context.Context, e Endpoint) error {
	return d.call(ctx, "Leave", e, &failure{})
}

// optional reads an address; "" is none.
func optional(s string) (a netip.Addr, err error) {
	if s == "" {
		return a, nil
	}
	if a, err = netip.ParseAddr(s); err != nil {
		return a, errdefs.Internalf("remote: the driver's address: %w", err)
	}
	return a, nil
}
