package network

import (
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"lade/internal/linux/nft"
)

// Gateway modes of a network, in Docker's words.
const (
	modeNAT         = "nat"             // translated both ways; only published ports are reachable
	modeUnprotected = "nat-unprotected" // translated; every port is reachable where there is a route
	modeRouted      = "routed"          // not translated; published ports are reachable at the container's address
	modeIsolated    = "isolated"        // internal, and the host has no address in it
)

// policy is what the rules say of one network.
type policy struct {
	link          string
	icc, internal bool
	vxlan         uint16 // the UDP port by which it reaches other hosts; 0: none
	trusted       []string
	v4, v6        familyPolicy
}

// familyPolicy is what they say in one family.
type familyPolicy struct {
	subnets []netip.Prefix // none: it has not the family
	masq    bool
	source  netip.Addr // see side.source
	mode    string
	direct  bool // published ports are reachable at the container's address
}

func (p policy) in(f nft.Family) familyPolicy {
	if f == nft.IPv6 {
		return p.v6
	}
	return p.v4
}

// policies returns those of all networks.
func (n *Networks) policies() []policy {
	var out []policy
	for _, b := range n.allBridges() {
		if !b.bridged() {
			continue
		}
		of := func(s side) familyPolicy {
			return familyPolicy{subnets: s.subnets(), mode: s.mode, direct: n.direct(s.mode), source: s.source, masq: s.masq && s.mode != modeRouted && !b.internal}
		}
		p := policy{link: b.link, vxlan: b.across.port(), icc: b.icc, internal: b.internal, trusted: b.trusted, v4: of(b.v4), v6: of(b.v6)}
		out = append(out, p)
	}
	return out
}

// Bits of "ct state" and "ct status".
// Source: include/uapi/linux/netfilter/nf_conntrack_common.h.
const (
	ctEstablished = 1 << 1 // NF_CT_STATE_BIT(IP_CT_ESTABLISHED)
	ctRelated     = 1 << 2 // NF_CT_STATE_BIT(IP_CT_RELATED)
	ctDNAT        = 1 << 5 // IPS_DST_NAT
)

// The maps from a bridge to the chain for packets that go to it, for those that
// come from it and stay in it, and for sources of connections that go to it.
const (
	into  = "into"
	outOf = "out_of"
	onto  = "onto"
)

// addRules writes maps, chains and rules of the present family into a batch.
//
// Every packet that is forwarded looks up its two bridges, however many
// networks there are; the first packet of a connection looks up the one it leaves
// by, and passes one rule for each network that masquerades.
//
// Packets with a mark that passes are let through before anything else is asked.
func addRules(b *nft.Batch, policies []policy, pass Mark) {
	f := b.Family()
	addr, proto, port := f.Fields()
	r := f.Registers()
	b.AddMap(nft.Map{Name: portsAt, Key: []nft.Field{addr, proto, port}, Value: []nft.Field{addr, port}})
	b.AddMap(nft.Map{Name: portsAny, Key: []nft.Field{proto, port}, Value: []nft.Field{addr, port}})
	b.AddMap(nft.Map{Name: portsFrom, Key: []nft.Field{addr, proto, port, addr}, Value: []nft.Field{addr, port}, Intervals: true})
	b.AddMap(nft.Map{Name: portsRanges, Key: []nft.Field{addr, proto, port}, Value: []nft.Field{addr}, Intervals: true})
	b.AddSet(portsOpen, addr, proto, port)
	b.AddMap(nft.Map{Name: into, Key: []nft.Field{nft.Interface()}})
	b.AddMap(nft.Map{Name: outOf, Key: []nft.Field{nft.Interface()}})
	b.AddMap(nft.Map{Name: onto, Key: []nft.Field{nft.Interface()}})

	b.AddChain(nft.Chain{Name: "raw", Type: "filter", Hook: nft.Prerouting, Priority: nft.PriorityRaw})
	b.AddChain(nft.Chain{Name: "publish"})
	b.AddChain(nft.Chain{Name: "prerouting", Type: "nat", Hook: nft.Prerouting, Priority: nft.PriorityDstNAT})
	b.AddChain(nft.Chain{Name: "output", Type: "nat", Hook: nft.Output, Priority: nft.PriorityDstNAT})
	b.AddChain(nft.Chain{Name: "postrouting", Type: "nat", Hook: nft.Postrouting, Priority: nft.PrioritySrcNAT})
	b.AddChain(nft.Chain{Name: "forward", Type: "filter", Hook: nft.Forward, Priority: nft.PriorityFilter})

	w := writer{b, f}
	if f == nft.IPv4 {
		// What is published on 127.0.0.1 is for this host only. DNAT comes before
		// the routing decision that would discard such a packet from outside. IPv6
		// discards it before anything else (ipv6_rcv).
		w.rule("raw", iif("lo", false), w.loopback(f.DstAddr), one(nft.Drop()))
	}
	w.rule("publish", []nft.Expr{
		f.DstAddr(0), nft.Meta(unix.NFT_META_L4PROTO, r), nft.DstPort(r + 1), nft.Lookup(portsAt, 0, r+2), nft.DstNAT(r+2, 2*r+2),
	})
	w.rule("publish", []nft.Expr{
		nft.Meta(unix.NFT_META_L4PROTO, 0), nft.DstPort(1), nft.Lookup(portsAny, 0, 2), nft.DstNAT(2, r+2),
	})
	w.rule("publish", []nft.Expr{
		f.DstAddr(0), nft.Meta(unix.NFT_META_L4PROTO, r), nft.DstPort(r + 1), nft.Lookup(portsRanges, 0, r+2), nft.DstNATAddr(r + 2),
	})
	w.rule("publish", w.allowed(), []nft.Expr{nft.DstNAT(2*r+2, 3*r+2)})
	if f == nft.IPv6 {
		// An answer that is translated back to ::1 finds no way to the socket. So
		// ::1 is not translated; the gate serves it.
		w.rule("output", []nft.Expr{f.DstAddr(0), nft.Equal(0, netip.IPv6Loopback().AsSlice()), nft.Accept()})
	}
	toHost := []nft.Expr{nft.DstType(0), nft.Equal(0, nft.Host(unix.RTN_LOCAL)), nft.Jump("publish")}
	w.rule("prerouting", toHost)
	w.rule("output", toHost)
	w.tunnels(policies)
	if pass.Mask != 0 {
		w.rule("forward", []nft.Expr{nft.Meta(unix.NFT_META_MARK, 0), nft.Mask(0, nft.Host(pass.Mask)), nft.Equal(0, nft.Host(pass.Value)), nft.Accept()})
	}
	w.rule("forward", []nft.Expr{nft.Meta(unix.NFT_META_IIFNAME, 0), nft.Dispatch(outOf, 0)})
	w.rule("forward", []nft.Expr{nft.Meta(unix.NFT_META_OIFNAME, 0), nft.Dispatch(into, 0)})
	w.rule("postrouting", []nft.Expr{nft.Meta(unix.NFT_META_OIFNAME, 0), nft.Dispatch(onto, 0)})
	for _, p := range policies {
		w.network(p)
	}
}

// writer adds rules for one family.
type writer struct {
	b *nft.Batch
	f nft.Family
}

func (w writer) rule(chain string, parts ...[]nft.Expr) {
	w.b.AddRule(chain, slices.Concat(parts...)...)
}

// network adds the rules of one network. In a family that it has not, nothing
// passes its bridge.
func (w writer) network(p policy) {
	own := p.in(w.f)
	if len(own.subnets) > 0 {
		w.translate(p.link, own)
	}
	in := into + "_" + p.link
	w.b.AddChain(nft.Chain{Name: in})
	w.b.AddElements(into, []nft.Element{{Key: nft.Name(p.link), Jump: in}})
	if !p.internal {
		w.rule(in, state(ctEstablished|ctRelated), one(nft.Accept()))
	}
	between := nft.Accept()
	if !p.icc {
		between = nft.Drop()
	}
	w.rule(in, iif(p.link, true), one(between))
	if !p.internal {
		for _, name := range p.trusted {
			w.rule(in, iif(name, true), one(nft.Accept()))
		}
	}
	switch {
	case p.internal:
	case own.mode == modeUnprotected:
		w.rule(in, one(nft.Accept()))
	case own.mode == modeRouted:
		w.opened(in)
		w.rule(in, []nft.Expr{nft.Meta(unix.NFT_META_L4PROTO, 0), nft.Equal(0, []byte{w.icmp()}), nft.Accept()})
	default:
		if own.direct {
			w.opened(in)
		}
		w.rule(in, translated(), one(nft.Accept()))
	}
	w.rule(in, one(nft.Drop()))
	if p.internal {
		out := outOf + "_" + p.link
		w.b.AddChain(nft.Chain{Name: out})
		w.b.AddElements(outOf, []nft.Element{{Key: nft.Name(p.link), Jump: out}})
		w.rule(out, oif(p.link, false), one(nft.Drop()))
	}
}

// opened accepts what goes to a port of a container that is open at its own address.
func (w writer) opened(chain string) {
	r := w.f.Registers()
	w.rule(chain, []nft.Expr{w.f.DstAddr(0), nft.Meta(unix.NFT_META_L4PROTO, r), nft.DstPort(r + 1), nft.Contains(portsOpen, 0), nft.Accept()})
	w.rule(chain, w.allowed(), one(nft.Accept()))
}

// allowed matches a packet to a port with a list of sources from one of them, and
// loads where it leads: after a key of two addresses, protocol and port.
func (w writer) allowed() []nft.Expr {
	r := w.f.Registers()
	return []nft.Expr{
		w.f.DstAddr(0), nft.Meta(unix.NFT_META_L4PROTO, r), nft.DstPort(r + 1), w.f.SrcAddr(r + 2), nft.Lookup(portsFrom, 0, 2*r+2),
	}
}

// translate adds the rules for sources.
func (w writer) translate(link string, p familyPolicy) {
	chain := onto + "_" + link
	w.b.AddChain(nft.Chain{Name: chain})
	w.b.AddElements(onto, []nft.Element{{Key: nft.Name(link), Jump: chain}})
	for _, subnet := range p.subnets {
		if p.masq {
			as := one(nft.Masquerade())
			if p.source.IsValid() {
				as = []nft.Expr{nft.Immediate(0, p.source.AsSlice()), nft.SrcNAT(0)}
			}
			w.rule("postrouting", w.address(w.f.SrcAddr, subnet), oif(link, false), as)
		}
		// A container that reaches a container, perhaps itself, through an address
		// of the host must get the answer from there too, not directly.
		w.rule(chain, w.address(w.f.SrcAddr, subnet), translated(), one(nft.Masquerade()))
	}
	if w.f == nft.IPv4 {
		// The host itself, through 127.0.0.1: no answer finds its way back there.
		w.rule(chain, w.loopback(w.f.SrcAddr), one(nft.Masquerade()))
	}
}

func (w writer) icmp() byte {
	if w.f == nft.IPv6 {
		return unix.IPPROTO_ICMPV6
	}
	return unix.IPPROTO_ICMP
}

// loopback matches an address in 127.0.0.0/8.
func (w writer) loopback(load func(nft.Reg) nft.Expr) []nft.Expr {
	return w.address(load, netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8))
}

// address matches an address of the packet that is in a subnet.
func (w writer) address(load func(nft.Reg) nft.Expr, p netip.Prefix) []nft.Expr {
	mask := net.CIDRMask(p.Bits(), p.Addr().BitLen())
	return []nft.Expr{load(0), nft.Mask(0, mask), nft.Equal(0, p.Masked().Addr().AsSlice())}
}

func one(e nft.Expr) []nft.Expr { return []nft.Expr{e} }

func link(key uint32, name string, equal bool) []nft.Expr {
	if equal {
		return []nft.Expr{nft.Meta(key, 0), nft.Equal(0, nft.Name(name))}
	}
	return []nft.Expr{nft.Meta(key, 0), nft.Differ(0, nft.Name(name))}
}

func iif(name string, equal bool) []nft.Expr { return link(unix.NFT_META_IIFNAME, name, equal) }
func oif(name string, equal bool) []nft.Expr { return link(unix.NFT_META_OIFNAME, name, equal) }

// state matches a connection in one of these states.
func state(bits uint32) []nft.Expr {
	return []nft.Expr{nft.CT(unix.NFT_CT_STATE, 0), nft.Mask(0, nft.Host(bits)), nft.Differ(0, nft.Host(0))}
}

// translated matches a connection to a published port.
func translated() []nft.Expr {
	return []nft.Expr{nft.CT(unix.NFT_CT_STATUS, 0), nft.Mask(0, nft.Host(ctDNAT)), nft.Differ(0, nft.Host(0))}
}
