package network

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"lade/internal/linux/nft"
)

// portRange is a range of ports of the host that lead to the ports with the same
// numbers of one container. It is one element, however many ports it has.
type portRange struct {
	proto       string
	ip          netip.Addr // of the host; unspecified: every one
	first, last uint16
}

// manyInARow is from how many ports on a range is made of them: a map of intervals
// is searched after the others, and not as fast.
const manyInARow = 16

func (r portRange) family() nft.Family { return familyIn(r.ip.Is6()) }

// keys are the first and the last key in the map of intervals.
func (r portRange) keys() (first, last []byte) {
	at := addresses(r.ip)
	key := func(ip netip.Addr, port uint16) []byte {
		return nft.Join(ip.AsSlice(), []byte{protocol(r.proto)}, nft.Port(port))
	}
	return key(at.First, r.first), key(at.Last, r.last)
}

// gather makes ranges of ports that follow each other.
func (p published) gather() {
	if len(p.to) < manyInARow {
		return
	}
	same := slices.Collect(maps.Keys(p.to))
	same = slices.DeleteFunc(same, func(h hostPort) bool { return p.to[h].Port() != h.Port() })
	slices.SortFunc(same, func(a, b hostPort) int {
		return cmp.Or(cmp.Compare(a.proto, b.proto), a.Addr().Compare(b.Addr()), p.to[a].Addr().Compare(p.to[b].Addr()), cmp.Compare(a.Port(), b.Port()))
	})
	for len(same) > 0 {
		first, n := same[0], 1
		for n < len(same) && same[n].proto == first.proto && same[n].Addr() == first.Addr() && p.to[same[n]].Addr() == p.to[first].Addr() && int(same[n].Port()) == int(first.Port())+n {
			n++
		}
		if n >= manyInARow {
			p.ranges[portRange{first.proto, first.Addr(), first.Port(), same[n-1].Port()}] = p.to[first].Addr()
			for _, h := range same[:n] {
				delete(p.to, h)
			}
		}
		same = same[n:]
	}
}
