package overlay

import (
	"context"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	"lade/internal/errdefs"
)

// maxSlices is in how many parts a subnet can be divided.
const maxSlices = 1 << 12

// namedSlices is how many parts there are when the peers are found by a name.
const namedSlices = 256

// Lookup asks a resolver for the addresses of a host: net.Resolver.LookupNetIP
// with network "ip".
type Lookup func(ctx context.Context, host string) ([]netip.Addr, error)

// Named reports whether peers are found by a name, so that they may change.
func Named(peers []string) bool {
	return slices.ContainsFunc(peers, func(p string) bool { _, err := netip.ParseAddr(p); return err != nil })
}

// Resolve returns the addresses of the hosts: those that are listed in their
// order, and those that a name stands for in the order of their numbers. It
// blocks as lookup does. Errors: Invalid when a name has none.
func Resolve(ctx context.Context, peers []string, lookup Lookup) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, p := range peers {
		if a, err := netip.ParseAddr(p); err == nil {
			out = append(out, a)
			continue
		}
		found, err := lookup(ctx, p)
		if err != nil {
			return nil, errdefs.Invalidf("the peers of an overlay network cannot be found: %w", err)
		}
		for i, a := range found {
			found[i] = a.Unmap()
		}
		slices.SortFunc(found, netip.Addr.Compare)
		out = append(out, slices.DeleteFunc(found, func(a netip.Addr) bool { return !usable(a) })...)
	}
	var unique []netip.Addr
	for _, a := range out {
		if !slices.Contains(unique, a) {
			unique = append(unique, a)
		}
	}
	switch {
	case len(unique) == 0:
		return nil, errdefs.Invalidf("the peers of an overlay network cannot be found: %s has no address", strings.Join(peers, ","))
	case len(unique) > maxPeers:
		return nil, errdefs.Invalidf("an overlay network has %d hosts at most, not %d", maxPeers, len(unique))
	}
	return unique, nil
}

// Others returns the hosts to which local sends: those of its family, without
// itself.
func Others(hosts []netip.Addr, local netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(hosts), func(a netip.Addr) bool { return a == local || a.Is4() != local.Is4() })
}

// FindLocal returns this host's address: what the options say, or the one of the
// hosts that it has. Errors: Invalid.
func (o Options) FindLocal(hosts, own []netip.Addr) (netip.Addr, error) {
	if o.Local.IsValid() {
		if !slices.Contains(own, o.Local) {
			return o.Local, errdefs.Invalidf("this host does not have the address %s", o.Local)
		}
		return o.Local, nil
	}
	var mine []netip.Addr
	for _, a := range hosts {
		if slices.Contains(own, a) {
			mine = append(mine, a)
		}
	}
	switch len(mine) {
	case 0:
		return netip.Addr{}, errdefs.Invalidf("none of the peers %s is this host: list it, too, or say --opt local=ADDRESS", join(hosts))
	case 1:
		return mine[0], nil
	}
	return netip.Addr{}, errdefs.Invalidf("this host has several of the peers' addresses, %s: say which one with --opt local=ADDRESS", join(mine))
}

// Place returns this host's number and how many parts of the subnet there are.
// Of listed hosts it is the place in the list. Those behind a name may change,
// so it is the last bits of the address, which must differ between them.
// Errors: Invalid.
func (o Options) Place(hosts []netip.Addr, local netip.Addr) (number, parts int, err error) {
	if Named(o.Peers) {
		parts = namedSlices
		if o.Slices != 0 {
			parts = o.Slices
		}
		number = low(local) % parts
		for _, a := range Others(hosts, local) {
			if low(a)%parts == number {
				return 0, 0, errdefs.Invalidf("the hosts %s and %s would give out the same addresses, because their own have the same last %d bits: say --ip-range on each of them", local, a, bits.Len(uint(parts-1)))
			}
		}
		return number, parts, nil
	}
	parts = o.Slices
	if parts == 0 {
		parts = max(2, 1<<bits.Len(uint(len(hosts)-1)))
	}
	number = slices.Index(hosts, local)
	switch {
	case number < 0:
		return 0, 0, errdefs.Invalidf("%s is not one of the peers %s, so its place among them is not known: list it, too, or say --ip-range", local, join(hosts))
	case number >= parts:
		return 0, 0, errdefs.Invalidf("%d slices are too few for %d hosts", parts, len(hosts))
	}
	return number, parts, nil
}

// Bridges returns the addresses that other hosts have in a subnet in which this one
// has an address: those that were given, or as far as they can be worked out, the
// first ones of their parts. That of a host with another part (--ip-range) or
// address (--gateway) cannot.
func (o Options) Bridges(hosts []netip.Addr, local netip.Addr, subnet netip.Prefix, here netip.Addr) (out []netip.Addr) {
	if o.Given != nil {
		for _, a := range o.Given {
			if a != here && subnet.Contains(a) {
				out = append(out, a)
			}
		}
		return out
	}
	for _, h := range Others(hosts, local) {
		number, parts, err := o.Place(hosts, h)
		if err != nil {
			continue
		}
		if part, err := Slice(subnet, number, parts); err == nil {
			out = append(out, First(subnet, part))
		}
	}
	return out
}

// CheckBridge refuses an address of this host that the others are not told of by the
// addresses that were given, and these if nobody can have them. Errors: Invalid.
func (o Options) CheckBridge(here netip.Addr, subnets []netip.Prefix) error {
	if o.Given == nil {
		return nil
	}
	for _, a := range o.Given {
		if !slices.ContainsFunc(subnets, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return errdefs.Invalidf("invalid value for driver-opt %q: %s is in no subnet of the network", optBridges, a)
		}
	}
	if !slices.Contains(o.Given, here) {
		return errdefs.Invalidf("invalid value for driver-opt %q: this host's address %s is missing; the list is the same on all hosts", optBridges, here)
	}
	return nil
}

// low returns the last 16 bits of an address.
func low(a netip.Addr) int {
	b := a.AsSlice()
	return int(b[len(b)-2])<<8 | int(b[len(b)-1])
}

// Slice returns one of the parts of a subnet, of which there are a power of two.
// Errors: Invalid when a part would have less than four addresses.
func Slice(subnet netip.Prefix, number, parts int) (netip.Prefix, error) {
	size := bits.Len(uint(parts - 1))
	length := subnet.Bits() + size
	if length > subnet.Addr().BitLen()-2 {
		return netip.Prefix{}, errdefs.Invalidf("the subnet %s is too small for %d hosts: take a larger one, fewer with --opt slices=, or say --ip-range on each host", subnet, parts)
	}
	b := subnet.Masked().Addr().AsSlice()
	for i := range size { // bit i of the number is bit length-1-i of the address
		at := length - 1 - i
		b[at/8] |= byte(number>>i&1) << (7 - at%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, length), nil
}

// First returns the first address of a part of a subnet that a host may have.
func First(subnet, part netip.Prefix) netip.Addr {
	if a := part.Masked().Addr(); a != subnet.Masked().Addr() {
		return a
	}
	return part.Masked().Addr().Next()
}

// MTU returns the largest packet of a network whose datagrams leave by a link
// with largest packet link.
//
// VXLAN adds an IP and a UDP header, its own, and the frame's. ESP with a block
// cipher adds a header, an initialisation vector and a check value, and fills
// the last block, in which two bytes are its own (RFC 4303, RFC 3602, RFC 4868).
func MTU(link int, local netip.Addr, encrypted bool) int {
	const ipv4, ipv6, udp, vxlan, ethernet = 20, 40, 8, 8, 14
	const esp, vector, check, block, trailer = 8, 16, 16, 16, 2
	left := link - ipv4
	if local.Is6() {
		left = link - ipv6
	}
	if encrypted {
		left -= esp + vector + check
		left -= left%block + trailer
	}
	return left - udp - vxlan - ethernet
}

func join(all []netip.Addr) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(all), " ", ", "), "[]")
}
