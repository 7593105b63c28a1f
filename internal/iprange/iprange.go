package iprange

import (
	"net/netip"
	"slices"
	"strings"

	"lade/internal/errdefs"
)

// Range are the addresses from First to Last, both included and of one family.
type Range struct{ First, Last netip.Addr }

// Parse reads a subnet, an address or two with "-" between them. Errors: Invalid.
func Parse(s string) (r Range, err error) {
	bad := errdefs.Invalidf("invalid source %q: want an address, a subnet or FIRST-LAST", s)
	if first, last, ok := strings.Cut(s, "-"); ok {
		a, err1 := netip.ParseAddr(first)
		b, err2 := netip.ParseAddr(last)
		if err1 != nil || err2 != nil || a.Zone() != "" || b.Zone() != "" || a.Unmap().Is4() != b.Unmap().Is4() || b.Unmap().Less(a.Unmap()) {
			return r, bad
		}
		return Range{a.Unmap(), b.Unmap()}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return Range{a.Unmap(), a.Unmap()}, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return r, bad
	}
	return Of(p), nil
}

// Of returns the addresses of a prefix.
func Of(p netip.Prefix) Range {
	last := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	end, _ := netip.AddrFromSlice(last)
	return Range{p.Masked().Addr(), end}
}

// Contains reports whether an address is in the range. A zone does not count.
func (r Range) Contains(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return a.Is4() == r.First.Is4() && !a.Less(r.First) && !r.Last.Less(a)
}

// String returns the range as Parse reads it, as short as it can be.
func (r Range) String() string {
	if r.First == r.Last {
		return r.First.String()
	}
	for bits := range r.First.BitLen() {
		p := netip.PrefixFrom(r.First, bits)
		if p.Masked() == p && Of(p) == r {
			return p.String()
		}
	}
	return r.First.String() + "-" + r.Last.String()
}

// MarshalText is String.
func (r Range) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is Parse.
func (r *Range) UnmarshalText(b []byte) (err error) {
	*r, err = Parse(string(b))
	return err
}

// Merge returns the same addresses in as few ranges as possible, in order, IPv4
// first.
func Merge(all []Range) []Range {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b Range) int { return a.First.Compare(b.First) })
	var out []Range
	for _, r := range all {
		if n := len(out); n > 0 && out[n-1].First.Is4() == r.First.Is4() {
			last := &out[n-1].Last
			if next := last.Next(); !next.IsValid() || !next.Less(r.First) {
				if last.Less(r.Last) {
					*last = r.Last
				}
				continue
			}
		}
		out = append(out, r)
	}
	return out
}
