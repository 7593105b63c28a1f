package network

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/moby/moby/api/types/network"

	"lade/internal/errdefs"
	"lade/internal/network/remote"
	"lade/internal/plugin"
	"lade/internal/store"
)

// grantBucket has the grants, by pool and address.
const grantBucket store.Bucket = "grant"

// grants are the subnets and addresses that networks have from address plugins
// (--ipam-driver) instead of our books. All that a plugin has given is recorded one
// by one before anybody uses it, and erased after the plugin has taken it back: when
// its owner is gone, or at the next start of the daemon. So a plugin keeps for ever
// at most what it gives in the moment of a crash, and what it does not take back of a
// network that goes.
//
// There is no state but the records: methods may be called at any time, and wait for
// the plugin, pluginPatience for each answer at most.
type grants struct {
	store   *store.Store
	plugins plugin.Dirs
	log     *slog.Logger
}

// grant is a subnet or an address that a plugin gave.
type grant struct {
	Driver  string              `json:"driver"` // name of the plugin
	Pool    string              `json:"pool"`   // the plugin's id of the subnet
	Address netip.Addr          `json:"address,omitzero"`
	Asked   *remote.PoolRequest `json:"asked,omitempty"` // of a subnet: what for
	Owner   string              `json:"owner"`           // id of the network or endpoint that has it
	Gateway bool                `json:"gateway,omitempty"`
}

// key orders the addresses of a pool after the pool.
func (g grant) key() string {
	if !g.Address.IsValid() {
		return g.Pool
	}
	return g.Pool + " " + g.Address.String()
}

// granted are the subnets of a network by a plugin.
type granted struct {
	Driver string       `json:"driver"`
	Pools  []string     `json:"pools"` // the plugin's ids, in the order of userNetwork.Pools
	Needs  remote.Needs `json:"needs,omitzero"`
}

// pluginOf returns the address plugin that a request names; "": none.
func pluginOf(q network.CreateRequest) string {
	if q.IPAM == nil || q.IPAM.Driver == "default" {
		return ""
	}
	return q.IPAM.Driver
}

// requestPools asks the address plugin for the subnets of a network, with the
// addresses that they keep, and returns the request with them; nil where the
// network has no plugin. It may take as long as the plugin does. On error nothing
// remains.
//
// Errors: NotFound without the plugin, Unavailable, Invalid; Internal in the words
// of the plugin.
func (gs grants) requestPools(ctx context.Context, id string, q network.CreateRequest) (_ network.CreateRequest, out *granted, err error) {
	if pluginOf(q) == "" || q.ConfigOnly {
		return q, nil, nil
	}
	if q.Driver == driverOverlay {
		return q, nil, errdefs.Invalidf("the hosts of an overlay network share its addresses out themselves: no --ipam-driver")
	}
	enabled, err := families4and6(q)
	if err == nil {
		err = checkIPAM(q.IPAM.Config, enabled)
	}
	if err != nil {
		return q, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, pluginPatience)
	defer cancel()
	i := remote.NewIPAM(pluginOf(q), gs.plugins)
	defer i.Close()
	out = &granted{Driver: pluginOf(q)}
	if out.Needs, err = i.Needs(ctx); err != nil {
		return q, nil, err
	}
	space, err := i.AddressSpace(ctx)
	if err != nil {
		return q, nil, err
	}
	defer func() {
		if err != nil {
			gs.returnOf(id, true)
		}
	}()
	full := *q.IPAM
	full.Config = nil
	for _, six := range families() {
		if !enabled[six] {
			continue
		}
		of := slices.DeleteFunc(slices.Clone(q.IPAM.Config), func(c network.IPAMConfig) bool { return familyOf(c) != six })
		if len(of) == 0 {
			of = []network.IPAMConfig{{}}
		}
		for _, c := range of {
			c, pool, err := gs.requestPool(ctx, i, id, space, q, c, six)
			if err != nil {
				return q, nil, err
			}
			full.Config, out.Pools = append(full.Config, c), append(out.Pools, pool)
		}
	}
	q.IPAM = &full
	return q, out, nil
}

// requestPool asks for one subnet, its gateway and its auxiliary addresses.
func (gs grants) requestPool(ctx context.Context, i *remote.IPAM, id, space string, q network.CreateRequest, c network.IPAMConfig, six bool) (network.IPAMConfig, string, error) {
	want := remote.PoolRequest{AddressSpace: space, Options: maps.Clone(q.IPAM.Options), V6: six}
	if c.Subnet.IsValid() {
		want.Pool = c.Subnet.String()
	}
	if c.IPRange.IsValid() {
		want.SubPool = c.IPRange.String()
	}
	g := grant{Driver: q.IPAM.Driver, Asked: &want, Owner: id}
	got, err := i.RequestPool(ctx, want)
	if g.Pool = got.ID; got.ID != "" {
		if _, taken := gs.store.Get(grantBucket, g.key()); taken {
			return c, "", errdefs.Forbiddenf("invalid pool request: Pool overlaps with other one on this address space")
		}
		err = errors.Join(err, gs.note(g))
	}
	if err != nil {
		return c, "", err
	}
	c.Subnet = got.Subnet
	g.Asked = nil
	children := q.Driver == driverMacvlan || q.Driver == driverIPVLAN
	if c.Gateway.IsValid() || !got.Gateway.IsValid() && !children { // nothing of ours answers to that of children
		g.Gateway = true
		if got.Gateway, err = gs.requestAddress(ctx, i, g, c.Gateway, remote.Purpose{Gateway: true}); err != nil {
			return c, "", err
		}
	}
	c.Gateway, g.Gateway = got.Gateway, false
	for _, a := range c.AuxAddress {
		if a == c.Gateway {
			continue
		}
		if _, err := gs.requestAddress(ctx, i, g, a, remote.Purpose{}); err != nil {
			return c, "", err
		}
	}
	return c, got.ID, checkIPAM([]network.IPAMConfig{c}, map[bool]bool{six: true})
}

// requestAddress asks for an address for the owner of g, and records it.
func (gs grants) requestAddress(ctx context.Context, i *remote.IPAM, g grant, want netip.Addr, why remote.Purpose) (netip.Addr, error) {
	ip, err := i.RequestAddress(ctx, g.Pool, want, why)
	if err != nil {
		return ip, err
	}
	g.Address = ip
	if err := gs.note(g); err != nil {
		return ip, errors.Join(err, i.ReleaseAddress(ctx, g.Pool, ip))
	}
	if want.IsValid() && ip != want {
		gs.giveBack(context.WithoutCancel(ctx), g)
		return ip, errdefs.Internalf("remote: the plugin gives %s instead of %s", ip, want)
	}
	return ip, nil
}

// lease asks the address plugin of a network for an endpoint's addresses.
func (gs grants) lease(b *bridge, r Request, e *endpointRecord) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), pluginPatience)
	defer cancel()
	i := remote.NewIPAM(b.granted.Driver, gs.plugins)
	defer i.Close()
	var why remote.Purpose
	if b.granted.Needs.RequiresMACAddress {
		if r.MAC == nil {
			r.MAC = randomMAC()
		}
		why.Hardware, e.MAC = r.MAC, r.MAC.String()
	}
	if e.IPv4, err = gs.leaseFrom(ctx, i, &b.v4, b, e, r.IPv4, r.Again, why); err == nil {
		e.IPv6, err = gs.leaseFrom(ctx, i, &b.v6, b, e, r.IPv6, r.Again, why)
	}
	return err
}

// leaseFrom asks for an address of one family: the one that is wanted, one that is
// to be had again, or any.
func (gs grants) leaseFrom(ctx context.Context, i *remote.IPAM, s *side, b *bridge, e *endpointRecord, want netip.Addr, again []netip.Addr, why remote.Purpose) (ip netip.Prefix, err error) {
	from := func(of *block, want netip.Addr) (netip.Prefix, error) {
		a, err := gs.requestAddress(ctx, i, grant{Driver: b.granted.Driver, Pool: of.pool, Owner: e.ID}, want, why)
		if err == nil && !of.subnet.Contains(a) {
			err = errdefs.Internalf("remote: the plugin's address %s is not of the subnet %s", a, of.subnet)
		}
		return of.with(a), err
	}
	if want.IsValid() {
		of := s.of(want)
		if of == nil {
			return ip, errdefs.Invalidf("no configured subnet contains IP address %s", want)
		}
		return from(of, want)
	}
	for _, a := range again {
		if of := s.of(a); of != nil {
			if ip, err := from(of, a); err == nil {
				return ip, nil
			}
		}
	}
	for _, of := range s.blocks() {
		if ip, err = from(of, netip.Addr{}); err == nil {
			return ip, nil
		}
	}
	return ip, err
}

// randomMAC is a hardware address for an endpoint whose plugin wants to know it
// before there is an address.
func randomMAC() net.HardwareAddr {
	mac := net.HardwareAddr{0x02, 0x42, 0, 0, 0, 0}
	_, _ = rand.Read(mac[2:]) // it never fails
	return mac
}

// note records what a plugin gave.
func (gs grants) note(g grant) error {
	v, err := json.Marshal(g)
	if err != nil {
		return err
	}
	var b store.Batch
	b.Put(grantBucket, g.key(), v)
	return gs.store.Append(&b)
}

// all returns what is recorded; of a pool the addresses come first.
func (gs grants) all() (out []grant) {
	for key, v := range gs.store.Walk(grantBucket) {
		var g grant
		if err := json.Unmarshal(v, &g); err != nil {
			gs.log.Error("cannot read what an address plugin gave", "grant", key, "error", err)
			continue
		}
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b grant) int {
		switch {
		case a.Address.IsValid() == b.Address.IsValid():
			return 0
		case a.Address.IsValid():
			return -1
		}
		return 1
	})
	return out
}

// giveBack gives back what a plugin gave, and reports whether it did. If not,
// it is asked again at the next start of the daemon.
func (gs grants) giveBack(ctx context.Context, g grant) bool {
	ctx, cancel := context.WithTimeout(ctx, pluginPatience)
	defer cancel()
	i := remote.NewIPAM(g.Driver, gs.plugins)
	defer i.Close()
	var err error
	if g.Address.IsValid() {
		err = i.ReleaseAddress(ctx, g.Pool, g.Address)
	} else {
		err = i.ReleasePool(ctx, g.Pool)
	}
	if err == nil {
		err = gs.forget(g)
	}
	if err != nil {
		gs.log.Warn("an address plugin does not take back what it gave", "plugin", g.Driver, "pool", g.Pool, "address", g.Address, "error", err)
	}
	return err == nil
}

// forget erases what a plugin took back.
func (gs grants) forget(g grant) error {
	var b store.Batch
	b.Delete(grantBucket, g.key())
	return gs.store.Append(&b)
}

// returnOf gives back all that an owner has. With forget what the plugin does not
// take is forgotten.
func (gs grants) returnOf(owner string, forget bool) {
	for _, g := range gs.all() {
		if g.Owner == owner && !gs.giveBack(context.Background(), g) && forget {
			if err := gs.forget(g); err != nil {
				gs.log.Error("cannot forget what an address plugin gave", "pool", g.Pool, "error", err)
			}
		}
	}
}

// recallGrants returns what is to be done about grants after a crash, for the
// networks and endpoints that there are. It is called before there are new ones.
func (n *Networks) recallGrants() (work func(ctx context.Context)) {
	networks, forgetful := map[string]bool{}, map[string]bool{}
	n.mu.Lock()
	for _, r := range n.records {
		networks[r.ID] = true
		if r.User != nil && r.User.Granted != nil && r.User.Granted.Needs.RequiresRequestReplay {
			forgetful[r.User.Granted.Driver] = true
		}
	}
	n.mu.Unlock()
	return n.grants.recall(forgetful, func(owner string) bool {
		_, endpoint := n.ownerOf(owner)
		return endpoint || networks[owner]
	})
}

// recall returns what is to be done about grants that outlived a process: those that
// nobody owns any more are given back, and plugins that forget are asked for all
// others again.
func (gs grants) recall(forgetful map[string]bool, owned func(owner string) bool) (work func(ctx context.Context)) {
	var lost, again []grant
	for _, g := range gs.all() {
		if !owned(g.Owner) {
			lost = append(lost, g)
		} else if forgetful[g.Driver] {
			again = append(again, g)
		}
	}
	slices.Reverse(again) // pools first
	return func(ctx context.Context) {
		for _, g := range again {
			if err := gs.replay(ctx, g); err != nil {
				gs.log.Error("an address plugin does not give again what it gave", "plugin", g.Driver, "pool", g.Pool, "address", g.Address, "error", err)
			}
		}
		for _, g := range lost {
			gs.giveBack(ctx, g)
		}
	}
}

// replay asks a plugin for what it gave before.
func (gs grants) replay(ctx context.Context, g grant) error {
	ctx, cancel := context.WithTimeout(ctx, pluginPatience)
	defer cancel()
	i := remote.NewIPAM(g.Driver, gs.plugins)
	defer i.Close()
	if g.Address.IsValid() {
		got, err := i.RequestAddress(ctx, g.Pool, g.Address, remote.Purpose{Gateway: g.Gateway})
		if err == nil && got != g.Address {
			err = fmt.Errorf("it gives %s", got)
		}
		return err
	}
	got, err := i.RequestPool(ctx, *g.Asked)
	if err == nil && got.ID != g.Pool {
		err = fmt.Errorf("the pool is %q now", got.ID)
	}
	return err
}
