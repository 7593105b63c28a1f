package network

import (
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/network/ipam"
)

// choose6 returns the default bridge's IPv6 address: as configured, as it was,
// or from the first pool that collides with nothing; zero without IPv6.
func (n *Networks) choose6(was netip.Prefix) (netip.Prefix, error) {
	c := n.c
	if !c.IPv6 {
		return netip.Prefix{}, nil
	}
	if err := checkIPv6(); err != nil {
		return netip.Prefix{}, err
	}
	bip, from := c.BIP6, "bip6"
	if !bip.IsValid() && c.FixedCIDR6.IsValid() {
		bip, from = netip.PrefixFrom(c.FixedCIDR6.Masked().Addr().Next(), c.FixedCIDR6.Bits()), "fixed-cidr-v6"
	}
	if bip.IsValid() {
		if bip.Addr().Is4() || bip.Addr().Is4In6() || bip.Bits() > 126 || bip.Addr() == bip.Masked().Addr() || bip.Addr().IsMulticast() || bip.Addr().IsLinkLocalUnicast() {
			return bip, errdefs.Invalidf("invalid bridge address %s: want the address of a host in an IPv6 subnet", bip)
		}
		return bip, unused(from, bip, n.subnets())
	}
	bridge, err := n.rt.LinkState(0, c.Bridge)
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return bip, err
	}
	taken, err := hostPrefixes(n.rt, bridge.Index)
	if err != nil {
		return bip, err
	}
	taken = append(taken, n.subnets()...)
	if was.IsValid() && !slices.ContainsFunc(taken, was.Overlaps) {
		return was, nil
	}
	subnet, err := ipam.Choose(n.pools6(), taken)
	if err != nil {
		return bip, err
	}
	return netip.PrefixFrom(subnet.Addr().Next(), subnet.Bits()), nil
}

// inet6 sets up the default bridge's IPv6.
func (n *Networks) inet6(b *bridge, bip netip.Prefix) error {
	b.v6 = side{block: block{subnet: bip.Masked(), address: bip, gateway: bip.Addr()}, masq: n.c.IPMasq, mode: modeNAT}
	if n.c.Gateway6.IsValid() {
		if !b.v6.subnet.Contains(n.c.Gateway6) {
			return errdefs.Invalidf("invalid default-gateway-v6 %s: the default bridge's subnet %s doesn't contain this address", n.c.Gateway6, b.v6.subnet)
		}
		b.v6.gateway = n.c.Gateway6
	}
	if b.mtu != 0 && b.mtu < leastIPv6MTU {
		return errdefs.Invalidf("invalid MTU %d: IPv6 needs 1280 at least", b.mtu)
	}
	return b.v6.open(n.c.FixedCIDR6, bip.Addr(), b.v6.gateway)
}

// around returns the default bridge's IPv4 address where only a part of its subnet
// is said, by --fixed-cidr: the first of those that it has or had with that part in
// their subnets, or else the first address of the part, which is the whole then.
func around(part netip.Prefix, had, others []netip.Prefix) (netip.Prefix, error) {
	for _, bip := range had {
		if bip.IsValid() && bip.Bits() <= part.Bits() && bip.Contains(part.Addr()) {
			return bip, unused("fixed-cidr", bip, others)
		}
	}
	bip := netip.PrefixFrom(part.Masked().Addr().Next(), part.Bits())
	if !bip.Addr().Is4() || bip.Bits() > 30 {
		return bip, errdefs.Invalidf("invalid fixed-cidr %s: without bip, it is the bridge's subnet: want an IPv4 subnet with two hosts at least", part)
	}
	return bip, unused("fixed-cidr", bip, others)
}

// unused refuses an address of the default bridge that was asked for (by option)
// and whose subnet overlaps another network's. That the host reaches the subnet by
// another link is told (see Conflicts), and the administrator's to decide.
func unused(option string, bip netip.Prefix, others []netip.Prefix) error {
	if i := slices.IndexFunc(others, bip.Overlaps); i >= 0 {
		return errdefs.Conflictf("invalid %s %s: it overlaps the subnet %s of a network: remove that network, or choose another address", option, bip, others[i])
	}
	return nil
}
