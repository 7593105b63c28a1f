package ipam

import (
	"encoding/binary"
	"net/netip"

	"lade/internal/errdefs"
)

// Pool is a prefix from which subnets of one size are cut.
type Pool struct {
	Base netip.Prefix
	Size int // prefix length of each subnet
}

// Defaults returns Docker's default address pools, in order: 172.17.0.0/16 to
// 172.31.0.0/16, and 192.168.0.0/20 to 192.168.240.0/20.
func Defaults() []Pool {
	var out []Pool
	for i := range 15 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(17 + i), 0, 0}), 16)
		out = append(out, Pool{p, 16})
	}
	return append(out, Pool{netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 0, 0}), 16), 20})
}

// Choose returns the first subnet of the pools' that overlaps none of taken.
// Errors: Exhausted, in Docker's words.
func Choose(pools []Pool, taken []netip.Prefix) (netip.Prefix, error) {
	for _, pool := range pools {
		for p := netip.PrefixFrom(pool.Base.Masked().Addr(), pool.Size); pool.Base.Contains(p.Addr()); {
			in := overlapped(p, taken)
			if !in.IsValid() {
				return p, nil
			}
			if in.Bits() > p.Bits() {
				in = p
			}
			next := Last(in).Next() // past all of it
			if !next.IsValid() {
				break
			}
			p = netip.PrefixFrom(next, pool.Size)
		}
	}
	return netip.Prefix{}, errdefs.Exhaustedf("all predefined address pools have been fully subnetted")
}

// overlapped returns the one of taken that overlaps p, or the zero Prefix.
func overlapped(p netip.Prefix, taken []netip.Prefix) netip.Prefix {
	for _, t := range taken {
		if p.Overlaps(t) {
			return t.Masked()
		}
	}
	return netip.Prefix{}
}

// Last returns the highest address of a prefix.
func Last(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		return addr(number(p.Addr()) | uint32(uint64(1)<<(32-p.Bits())-1))
	}
	b := p.Masked().Addr().As16()
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	if n := 128 - p.Bits(); n >= 64 {
		hi, lo = hi|(uint64(1)<<(n-64)-1), ^uint64(0)
	} else {
		lo |= uint64(1)<<n - 1
	}
	binary.BigEndian.PutUint64(b[:8], hi)
	binary.BigEndian.PutUint64(b[8:], lo)
	return netip.AddrFrom16(b)
}
