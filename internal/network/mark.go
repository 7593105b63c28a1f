package network

import (
	"strconv"
	"strings"

	"lade/internal/errdefs"
)

// Mark are marks of packets: those whose bits of Mask are Value. A Mask of zero
// stands for none.
//
// Source: nft(8), "meta mark".
type Mark struct{ Value, Mask uint32 }

// ParseMark reads a mark as VALUE or VALUE/MASK, in decimal, octal (0…) or
// hexadecimal (0x…); "" is none. Errors: Invalid.
func ParseMark(s string) (m Mark, err error) {
	if s == "" {
		return m, nil
	}
	value, mask, masked := strings.Cut(s, "/")
	if !masked {
		mask = "0xffffffff"
	}
	for _, x := range []struct {
		to *uint32
		s  string
	}{{&m.Value, value}, {&m.Mask, mask}} {
		n, err := strconv.ParseUint(x.s, 0, 32)
		if err != nil {
			return Mark{}, errdefs.Invalidf("invalid firewall mark %q: must be a number, or a number and a mask such as 0x1/0x3", s)
		}
		*x.to = uint32(n)
	}
	if m.Mask == 0 || m.Value&^m.Mask != 0 {
		return Mark{}, errdefs.Invalidf("invalid firewall mark %q: the mask hides a part of it", s)
	}
	return m, nil
}
