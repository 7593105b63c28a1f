package network

import (
	"errors"
	"net/netip"

	"lade/internal/errdefs"
)

// block is a subnet of a network. Networks of the drivers macvlan, ipvlan and
// overlay may have several of a family: a container's address is of the first one
// that has a free address, unless it asks for one.
type block struct {
	subnet  netip.Prefix // masked; zero: the family is not in use
	address netip.Prefix // of the link; zero: none
	gateway netip.Addr   // default route of containers; zero: none; unspecified: their interface
	part    netip.Prefix // what addrs gives out of itself; zero: all
	addrs   allocator    // nil where a plugin has the addresses
	pool    string       // the plugin's id of it
}

// blocks returns the subnets of a family; none where it is not in use.
func (s *side) blocks() []*block {
	if !s.subnet.IsValid() {
		return nil
	}
	out := []*block{&s.block}
	for i := range s.further {
		out = append(out, &s.further[i])
	}
	return out
}

// of returns the subnet that has an address; nil when none has.
func (s *side) of(ip netip.Addr) *block {
	for _, b := range s.blocks() {
		if b.subnet.Contains(ip) {
			return b
		}
	}
	return nil
}

// addresses returns those of the link.
func (s *side) addresses() (out []netip.Prefix) {
	for _, b := range s.blocks() {
		if b.address.IsValid() {
			out = append(out, b.address)
		}
	}
	return out
}

// subnets returns those of a network, of one family.
func (s *side) subnets() (out []netip.Prefix) {
	for _, b := range s.blocks() {
		out = append(out, b.subnet)
	}
	return out
}

// take takes an address of a family; zero: one that is to be taken again, or the
// next free one, if the network has the family.
func (s *side) take(want netip.Addr, again []netip.Addr) (ip netip.Prefix, err error) {
	if want.IsValid() {
		b := s.of(want)
		if b == nil || b.addrs == nil {
			return ip, errdefs.Invalidf("no configured subnet contains IP address %s", want)
		}
		return b.with(want), b.addrs.Take(want)
	}
	for _, a := range again { // of this family, of these subnets, and free
		if b := s.of(a); b != nil && b.addrs != nil && b.addrs.Take(a) == nil {
			return b.with(a), nil
		}
	}
	for _, b := range s.blocks() {
		if b.addrs == nil {
			continue
		}
		var a netip.Addr
		if a, err = b.addrs.Next(); err == nil {
			return b.with(a), nil
		}
		if !errors.Is(err, errdefs.Exhausted) {
			break
		}
	}
	return ip, err
}

// with returns an address with the subnet's length.
func (b *block) with(ip netip.Addr) netip.Prefix { return netip.PrefixFrom(ip, b.subnet.Bits()) }

func (s *side) release(ip netip.Prefix) {
	if b := s.of(ip.Addr()); b != nil && b.addrs != nil {
		b.addrs.Release(ip.Addr())
	}
}
