package network

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"lade/internal/iprange"
	"lade/internal/linux/nft"
)

// hostPort is a published port as packets arrive for it. An unspecified addr
// stands for every local address.
type hostPort struct {
	proto string
	netip.AddrPort
}

// published is what the firewall knows of ports.
type published struct {
	to     map[hostPort]netip.AddrPort // where those of the host lead
	ranges map[portRange]netip.Addr    // the same, of many at once
	from   map[limited]netip.AddrPort  // the same, of those with a list of sources: for each of them
	open   map[hostPort]bool           // those of containers that are open at their own address
	gated  map[hostPort]bool           // served by the gate
}

// limited is a port for the clients of one range.
type limited struct {
	hostPort
	from iprange.Range
}

func newPublished() published {
	return published{map[hostPort]netip.AddrPort{}, map[portRange]netip.Addr{}, map[limited]netip.AddrPort{}, map[hostPort]bool{}, map[hostPort]bool{}}
}

// minus returns what of p is not in q. Neither may be changed afterwards: it may
// be p itself, of which there can be thousands.
func (p published) minus(q published) published {
	return published{minus(p.to, q.to), minus(p.ranges, q.ranges), minus(p.from, q.from), minus(p.open, q.open), minus(p.gated, q.gated)}
}

func minus[K, V comparable](p, q map[K]V) map[K]V {
	if len(q) == 0 {
		return p
	}
	out := map[K]V{}
	for k, v := range p {
		if w, ok := q[k]; !ok || w != v {
			out[k] = v
		}
	}
	return out
}

// drop removes the keys of q from p.
func (p published) drop(q published) {
	drop(p.to, q.to)
	drop(p.ranges, q.ranges)
	drop(p.from, q.from)
	drop(p.open, q.open)
	drop(p.gated, q.gated)
}

func drop[K comparable, V any](p, q map[K]V) {
	for k := range q {
		delete(p, k)
	}
}

// join adds q to p.
func (p published) join(q published) {
	maps.Copy(p.to, q.to)
	maps.Copy(p.ranges, q.ranges)
	maps.Copy(p.from, q.from)
	maps.Copy(p.open, q.open)
	maps.Copy(p.gated, q.gated)
}

func (p published) empty() bool {
	return len(p.to)+len(p.ranges)+len(p.from)+len(p.open)+len(p.gated) == 0
}

// family is the one of the table that has the port.
func (p hostPort) family() nft.Family {
	if p.Addr().Is6() {
		return nft.IPv6
	}
	return nft.IPv4
}

// key is protocol and port, after the address if there is one.
func (p hostPort) key() []byte {
	if p.Addr().IsUnspecified() {
		return p.number()
	}
	return p.exact()
}

// number is protocol and port.
func (p hostPort) number() []byte { return nft.Join([]byte{protocol(p.proto)}, nft.Port(p.Port())) }

// exact is the key with an address.
func (p hostPort) exact() []byte { return nft.Join(p.Addr().AsSlice(), p.number()) }

// keys are the first and the last key in the map of intervals.
func (l limited) keys() (first, last []byte) {
	at := addresses(l.Addr())
	return nft.Join(at.First.AsSlice(), l.number(), l.from.First.AsSlice()), nft.Join(at.Last.AsSlice(), l.number(), l.from.Last.AsSlice())
}

// addresses are those of the host that a published address stands for.
func addresses(ip netip.Addr) iprange.Range {
	if ip.IsUnspecified() {
		return iprange.Of(netip.PrefixFrom(ip, 0))
	}
	return iprange.Range{First: ip, Last: ip}
}

// elements are entries of the tables of one family.
type elements struct{ at, any, ranges, from, open, gated []nft.Element }

// elements sorts ports of a family into the maps where they belong.
func (p published) elements(family nft.Family) (out elements) {
	value := func(to netip.AddrPort) []byte { return nft.Join(to.Addr().AsSlice(), nft.Port(to.Port())) }
	for h, to := range p.to {
		if h.family() != family {
			continue
		}
		e := nft.Element{Key: h.key(), Value: value(to)}
		if h.Addr().IsUnspecified() {
			out.any = append(out.any, e)
		} else {
			out.at = append(out.at, e)
		}
	}
	for r, to := range p.ranges {
		if r.family() == family {
			first, last := r.keys()
			out.ranges = append(out.ranges, nft.Element{Key: first, KeyEnd: last, Value: to.AsSlice()})
		}
	}
	for l, to := range p.from {
		if l.family() == family {
			first, last := l.keys()
			out.from = append(out.from, nft.Element{Key: first, KeyEnd: last, Value: value(to)})
		}
	}
	for h := range p.open {
		if h.family() == family {
			out.open = append(out.open, nft.Element{Key: h.exact()})
		}
	}
	numbers := map[string]bool{} // of several addresses
	for h := range p.gated {
		if k := string(h.number()); h.family() == family && !numbers[k] {
			numbers[k] = true
			out.gated = append(out.gated, nft.Element{Key: h.number()})
		}
	}
	return out
}

// add writes the elements of the present family into a batch.
func (p published) add(b *nft.Batch) {
	e := p.elements(b.Family())
	b.AddElements(portsAt, e.at)
	b.AddElements(portsAny, e.any)
	b.AddElements(portsRanges, e.ranges)
	b.AddElements(portsFrom, e.from)
	b.AddElements(portsOpen, e.open)
	b.AddElements(portsGated, e.gated)
}

// del removes the elements of the present family; those in stays share numbers
// with them.
func (p published) del(b *nft.Batch, stays map[hostPort]bool) {
	e := p.elements(b.Family())
	b.DelElements(portsAt, e.at)
	b.DelElements(portsAny, e.any)
	b.DelElements(portsRanges, e.ranges)
	b.DelElements(portsFrom, e.from)
	b.DelElements(portsOpen, e.open)
	e.gated = slices.DeleteFunc(e.gated, func(n nft.Element) bool {
		for h := range stays {
			if h.family() == b.Family() && bytes.Equal(h.number(), n.Key) {
				return true
			}
		}
		return false
	})
	b.DelElements(portsGated, e.gated)
}

// protocol returns the number that "meta l4proto" has for tcp, udp or sctp.
func protocol(name string) uint8 {
	switch name {
	case "udp":
		return unix.IPPROTO_UDP
	case "sctp":
		return unix.IPPROTO_SCTP
	}
	return unix.IPPROTO_TCP
}
