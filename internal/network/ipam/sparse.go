package ipam

import (
	"maps"
	"net/netip"
	"slices"

	"lade/internal/errdefs"
)

// Sparse gives out the addresses of an IPv6 subnet: it keeps those in use only,
// because there are too many others. Like an Allocator it goes round.
type Sparse struct {
	subnet, within netip.Prefix // masked
	used           map[netip.Addr]bool
	next           netip.Addr
}

// NewSparse returns a Sparse for the addresses of subnet, or of the part of it
// that within names. The first address of the subnet, that of all its routers
// (RFC 4291 2.6.1), is never given out. Errors: Invalid.
func NewSparse(subnet, within netip.Prefix) (*Sparse, error) {
	subnet = subnet.Masked()
	if !subnet.IsValid() || !subnet.Addr().Is6() || subnet.Addr().Is4In6() {
		return nil, errdefs.Invalidf("invalid subnet %s: not an IPv6 network", subnet)
	}
	if !within.IsValid() {
		within = subnet
	}
	within = within.Masked()
	if within.Bits() < subnet.Bits() || !subnet.Contains(within.Addr()) {
		return nil, errdefs.Invalidf("address range %s is not part of subnet %s", within, subnet)
	}
	s := &Sparse{subnet: subnet, within: within, used: map[netip.Addr]bool{}, next: within.Addr()}
	if subnet.Bits() < 127 { // RFC 6164: a /127 has no such address
		s.used[subnet.Addr()] = true
	}
	return s, nil
}

// InUse returns the addresses that are not free, in no order.
func (s *Sparse) InUse() []netip.Addr { return slices.Collect(maps.Keys(s.used)) }

// Next takes the next free address. Errors: Exhausted.
func (s *Sparse) Next() (netip.Addr, error) {
	for range len(s.used) + 1 { // one of them is free
		if !s.within.Contains(s.next) { // also after the very last address
			s.next = s.within.Addr()
		}
		ip := s.next
		s.next = ip.Next()
		if !s.used[ip] {
			s.used[ip] = true
			return ip, nil
		}
	}
	return netip.Addr{}, errdefs.Exhaustedf("no available IPv6 addresses on this network's address pools")
}

// Take takes one address of the subnet. Errors: as Allocator.Take.
func (s *Sparse) Take(ip netip.Addr) error {
	if !s.subnet.Contains(ip) {
		return errdefs.Invalidf("no configured subnet contains IP address %s", ip)
	}
	if s.used[ip] {
		return errdefs.Forbiddenf("Address already in use")
	}
	s.used[ip] = true
	return nil
}

// Release gives an address back. One that is free already stays so, and the
// first one of the subnet is never free.
func (s *Sparse) Release(ip netip.Addr) {
	if ip != s.subnet.Addr() || s.subnet.Bits() >= 127 {
		delete(s.used, ip)
	}
}
