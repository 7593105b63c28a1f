package engine

import (
	"net/netip"

	"lade/internal/network/overlay"
	"lade/internal/supervisor/wire"
)

// across says where supervisors of several hosts ask each other for the names of a
// network; nil for one that is on this host only.
func (n *nameService) across(network string) *wire.Across {
	a := n.h.Networks.Across(network)
	if a == nil {
		return nil
	}
	at := func(ip netip.Addr) netip.AddrPort { return netip.AddrPortFrom(ip, overlay.NamesPort) }
	out := &wire.Across{Here: at(a.Here), Subnets: a.Subnets}
	for _, p := range a.Peers {
		out.Peers = append(out.Peers, at(p))
	}
	return out
}
