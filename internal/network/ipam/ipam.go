package ipam

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"lade/internal/errdefs"
)

// maxBits is the largest host part that is managed: 2 MiB of bitmap.
const maxBits = 24

// Allocator gives out the IPv4 addresses of a subnet.
type Allocator struct {
	subnet netip.Prefix // masked
	first  uint32       // lowest address of the range
	size   uint32       // addresses in the range
	used   []uint64
	next   uint32 // offset where the search begins
}

// New returns an Allocator for the addresses of subnet, or of the part of it
// that within names. The addresses of the network and of broadcasts are never
// given out. Errors: Invalid.
func New(subnet, within netip.Prefix) (*Allocator, error) {
	subnet = subnet.Masked()
	if !subnet.IsValid() || !subnet.Addr().Is4() {
		return nil, errdefs.Invalidf("invalid subnet %s: not an IPv4 network", subnet)
	}
	if !within.IsValid() {
		within = subnet
	}
	within = within.Masked()
	if within.Bits() < subnet.Bits() || !subnet.Contains(within.Addr()) {
		return nil, errdefs.Invalidf("address range %s is not part of subnet %s", within, subnet)
	}
	host := 32 - within.Bits()
	if host > maxBits {
		return nil, errdefs.Invalidf("subnet %s is larger than /%d", within, 32-maxBits)
	}
	a := &Allocator{subnet: subnet, first: number(within.Addr()), size: 1 << host}
	a.used = make([]uint64, (a.size+63)/64)
	if tail := a.size % 64; tail != 0 {
		a.used[0] = ^uint64(0) << tail
	}
	if subnet.Bits() < 31 { // RFC 3021: a /31 has neither
		a.mark(number(subnet.Addr()))
		a.mark(number(Last(subnet)))
	}
	return a, nil
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func addr(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// mark sets the bit of n and reports whether it was free; an address outside
// the range always is.
func (a *Allocator) mark(n uint32) bool {
	i := n - a.first // wraps around below the range
	if i >= a.size {
		return true
	}
	w, bit := &a.used[i/64], uint64(1)<<(i%64)
	free := *w&bit == 0
	*w |= bit
	return free
}

// Next takes the next free address. Errors: Exhausted.
func (a *Allocator) Next() (netip.Addr, error) {
	words := uint32(len(a.used))
	for k := range words + 1 {
		w := (a.next/64 + k) % words
		free := ^a.used[w]
		if k == 0 {
			free &= ^uint64(0) << (a.next % 64)
		}
		if free != 0 {
			i := w*64 + uint32(bits.TrailingZeros64(free))
			a.used[w] |= 1 << (i % 64)
			a.next = (i + 1) % a.size
			return addr(a.first + i), nil
		}
	}
	return netip.Addr{}, errdefs.Exhaustedf("no available IPv4 addresses on this network's address pools")
}

// Take takes one address of the subnet. Errors: Forbidden (Docker's choice) when it is in use,
// Invalid when it is not in the subnet.
func (a *Allocator) Take(ip netip.Addr) error {
	if !a.subnet.Contains(ip) {
		return errdefs.Invalidf("no configured subnet contains IP address %s", ip)
	}
	if !a.mark(number(ip)) {
		return errdefs.Forbiddenf("Address already in use")
	}
	return nil
}

// Release gives an address back. One that is free already stays so.
func (a *Allocator) Release(ip netip.Addr) {
	if !a.subnet.Contains(ip) {
		return
	}
	if i := number(ip) - a.first; i < a.size {
		a.used[i/64] &^= 1 << (i % 64)
	}
}
