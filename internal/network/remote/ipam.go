package remote

import (
	"context"
	"net"
	"net/netip"

	"lade/internal/errdefs"
	"lade/internal/plugin"
	"lade/internal/trace"
)

// KindIPAM is what a plugin implements that gives out addresses.
const KindIPAM = "IpamDriver"

// IPAM is an address plugin: it gives out subnets (pools) and their addresses.
//
//	RequestPool ─ RequestAddress ─ … ─ ReleaseAddress ─ ReleasePool
//
// Source: docs/ipam.md of github.com/moby/libnetwork.
type IPAM struct{ p *plugin.Plugin }

// NewIPAM returns the address plugin of a name. It looks for nothing yet.
func NewIPAM(name string, dirs plugin.Dirs) *IPAM { return &IPAM{plugin.New(name, KindIPAM, dirs)} }

// Close closes idle connections.
func (i *IPAM) Close() { i.p.Close() }

// refusal is what every answer of an address plugin may hold.
type refusal struct{ Error string }

func (r *refusal) complaint() string { return r.Error }

// call is as Driver.call.
func (i *IPAM) call(ctx context.Context, method string, request any, answer interface{ complaint() string }) error {
	span := trace.Begin(trace.Net, "plugin "+method, i.p.Name())
	err := i.p.Call(ctx, KindIPAM+"."+method, request, answer)
	if err == nil && answer.complaint() != "" {
		err = errdefs.Internalf("remote: %s", answer.complaint())
	}
	return span.End(err)
}

// Needs is what an address plugin wants of the engine.
type Needs struct {
	RequiresMACAddress    bool // with each request for an address
	RequiresRequestReplay bool // it forgets: all requests are made again when the engine starts
}

// Needs asks for them.
func (i *IPAM) Needs(ctx context.Context) (Needs, error) {
	var a struct {
		refusal
		Needs
	}
	err := i.call(ctx, "GetCapabilities", nil, &a)
	return a.Needs, err
}

// AddressSpace asks for the address space of networks of one host.
func (i *IPAM) AddressSpace(ctx context.Context) (string, error) {
	var a struct {
		refusal
		LocalDefaultAddressSpace string
	}
	err := i.call(ctx, "GetDefaultAddressSpaces", nil, &a)
	return a.LocalDefaultAddressSpace, err
}

// PoolRequest asks for a subnet.
type PoolRequest struct {
	AddressSpace string            `json:"AddressSpace"`
	Pool         string            `json:"Pool"`    // with length; "": any
	SubPool      string            `json:"SubPool"` // addresses are to be of this part; "": of all
	Options      map[string]string `json:"Options"` // of the network's creator
	V6           bool              `json:"V6"`
}

// GrantedPool is a subnet that a plugin gave.
type GrantedPool struct {
	ID      string
	Subnet  netip.Prefix
	Gateway netip.Addr // zero: to be asked for
}

// keyGateway names the gateway in what comes with a pool, and what an address is
// for in a request for one.
const (
	keyGateway  = "com.docker.network.gateway"
	keyPurpose  = "RequestAddressType"
	keyHardware = "com.docker.network.endpoint.macaddress"
)

// RequestPool asks for a subnet. Errors: Internal also for an answer that is none.
func (i *IPAM) RequestPool(ctx context.Context, q PoolRequest) (GrantedPool, error) {
	var a struct {
		refusal
		PoolID, Pool string
		Data         map[string]string
	}
	if err := i.call(ctx, "RequestPool", q, &a); err != nil {
		return GrantedPool{}, err
	}
	p := GrantedPool{ID: a.PoolID}
	var err error
	if p.Subnet, err = netip.ParsePrefix(a.Pool); err != nil || a.PoolID == "" || p.Subnet.Addr().Is6() != q.V6 {
		return p, errdefs.Internalf("remote: the pool %q %q is no subnet of this family", a.PoolID, a.Pool)
	}
	p.Subnet = p.Subnet.Masked()
	if g := a.Data[keyGateway]; g != "" {
		if p.Gateway, err = address(g); err != nil {
			return p, err
		}
	}
	return p, nil
}

// ReleasePool gives a subnet back.
func (i *IPAM) ReleasePool(ctx context.Context, id string) error {
	return i.call(ctx, "ReleasePool", map[string]string{"PoolID": id}, &refusal{})
}

// Purpose says what an address is for.
type Purpose struct {
	Gateway  bool
	Hardware net.HardwareAddr // of the endpoint; nil: not told
}

// RequestAddress asks for an address of a pool: a certain one, or with the zero
// Addr any. Errors: Internal, in the plugin's words, also when there is none.
func (i *IPAM) RequestAddress(ctx context.Context, pool string, want netip.Addr, why Purpose) (netip.Addr, error) {
	q := struct {
		PoolID, Address string
		Options         map[string]string
	}{PoolID: pool, Options: map[string]string{}}
	if want.IsValid() {
		q.Address = want.String()
	}
	if why.Gateway {
		q.Options[keyPurpose] = keyGateway
	}
	if why.Hardware != nil {
		q.Options[keyHardware] = why.Hardware.String()
	}
	var a struct {
		refusal
		Address string
	}
	if err := i.call(ctx, "RequestAddress", q, &a); err != nil {
		return netip.Addr{}, err
	}
	return address(a.Address)
}

// ReleaseAddress gives an address back.
func (i *IPAM) ReleaseAddress(ctx context.Context, pool string, ip netip.Addr) error {
	return i.call(ctx, "ReleaseAddress", map[string]string{"PoolID": pool, "Address": ip.String()}, &refusal{})
}

// address reads an address that has a length, or none.
func address(s string) (netip.Addr, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Addr(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, errdefs.Internalf("remote: the plugin's address: %w", err)
	}
	return a, nil
}
