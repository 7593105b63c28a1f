package network

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"lade/internal/linux/nft"
	"lade/internal/trace"
)

// tablePrefix begins the name of an engine's nftables table; the bridge's name
// ends it.
const tablePrefix = "lade_"

// The maps of published ports: by host address, and for every local address.
const (
	portsAt  = "ports_at"  // ip daddr . meta l4proto . th dport : addr . port
	portsAny = "ports_any" // meta l4proto . th dport : addr . port
)

// hostPort is a published port as packets arrive for it. An unspecified addr
// stands for every local address.
type hostPort struct {
	proto string
	netip.AddrPort
}

// policy is what the rules of an engine's table say.
type policy struct {
	bridge      string
	subnet      netip.Prefix
	icc, ipMasq bool
}

// firewall owns one nftables table. What it should hold is kept here, so that
// it can be made anew whenever somebody removed it.
type firewall struct {
	log    *slog.Logger
	policy policy
	table  string
	conn   *nft.Conn

	mu      sync.Mutex // also orders the transactions
	ports   map[hostPort]netip.AddrPort
	removed bool // by destroy
}

func newFirewall(p policy, log *slog.Logger) (*firewall, error) {
	conn, err := nft.Dial()
	if err != nil {
		return nil, err
	}
	return &firewall{log: log, policy: p, table: tablePrefix + p.bridge, conn: conn, ports: map[hostPort]netip.AddrPort{}}, nil
}

// replace makes the table anew with exactly these ports, in one transaction:
// no packet passes between the old table and the new one.
func (f *firewall) replace(ports map[hostPort]netip.AddrPort) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ports = maps.Clone(ports)
	return f.rebuildLocked()
}

// repair makes the table anew if it is not there.
func (f *firewall) repair() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	names, err := f.conn.Tables()
	if err != nil || f.removed || slices.Contains(names, f.table) {
		return err
	}
	f.log.Warn("somebody removed the nftables table; it is made anew", "table", f.table)
	return f.rebuildLocked()
}

func (f *firewall) rebuildLocked() error {
	b := nft.NewBatch(f.table)
	b.AddTable() // so that there is one to remove
	b.DelTable()
	b.AddTable()
	f.policy.add(b)
	addPorts(b, f.ports)
	return trace.Begin(trace.Nft, "replace table", f.table).End(f.conn.Commit(b))
}

// add publishes ports, all or none. One transaction of one element each,
// however many there are already.
func (f *firewall) add(ports map[hostPort]netip.AddrPort) error {
	if len(ports) == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	b := nft.NewBatch(f.table)
	addPorts(b, ports)
	err := trace.Begin(trace.Nft, "add element", f.table).End(f.conn.Commit(b))
	maps.Copy(f.ports, ports)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EEXIST) { // somebody changed our table
		f.log.Warn("the nftables table was changed from outside and is made anew", "table", f.table, "error", err)
		err = f.rebuildLocked()
	}
	if err != nil {
		for p := range ports {
			delete(f.ports, p)
		}
	}
	return err
}

// remove takes published ports back.
func (f *firewall) remove(ports []hostPort) error {
	if len(ports) == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	b := nft.NewBatch(f.table)
	at, anyAddr := []nft.Element{}, []nft.Element{}
	for _, p := range ports {
		delete(f.ports, p)
		if p.Addr().IsUnspecified() {
			anyAddr = append(anyAddr, nft.Element{Key: p.key()})
		} else {
			at = append(at, nft.Element{Key: p.key()})
		}
	}
	b.DelElements(portsAt, at)
	b.DelElements(portsAny, anyAddr)
	err := trace.Begin(trace.Nft, "delete element", f.table).End(f.conn.Commit(b))
	if errors.Is(err, unix.ENOENT) {
		f.log.Warn("the nftables table was changed from outside and is made anew", "table", f.table, "error", err)
		err = f.rebuildLocked()
	}
	return err
}

// destroy removes the table.
func (f *firewall) destroy() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.removed = true
	b := nft.NewBatch(f.table)
	b.AddTable()
	b.DelTable()
	return trace.Begin(trace.Nft, "delete table", f.table).End(f.conn.Commit(b))
}

func (f *firewall) close() error { return f.conn.Close() }

func (p hostPort) key() []byte {
	proto := []byte{protocol(p.proto)}
	if p.Addr().IsUnspecified() {
		return nft.Join(proto, nft.Port(p.Port()))
	}
	return nft.Join(p.Addr().AsSlice(), proto, nft.Port(p.Port()))
}

func addPorts(b *nft.Batch, ports map[hostPort]netip.AddrPort) {
	var at, anyAddr []nft.Element
	for p, to := range ports {
		e := nft.Element{Key: p.key(), Value: nft.Join(to.Addr().AsSlice(), nft.Port(to.Port()))}
		if p.Addr().IsUnspecified() {
			anyAddr = append(anyAddr, e)
		} else {
			at = append(at, e)
		}
	}
	b.AddElements(portsAt, at)
	b.AddElements(portsAny, anyAddr)
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

// Bits of "ct state" and "ct status".
// Source: include/uapi/linux/netfilter/nf_conntrack_common.h.
const (
	ctEstablished = 1 << 1 // NF_CT_STATE_BIT(IP_CT_ESTABLISHED)
	ctRelated     = 1 << 2 // NF_CT_STATE_BIT(IP_CT_RELATED)
	ctDNAT        = 1 << 5 // IPS_DST_NAT
)

// add writes maps, chains and rules into a batch.
func (p policy) add(b *nft.Batch) {
	addr, proto, port := nft.Fields()
	b.AddMap(nft.Map{Name: portsAt, Key: []nft.Field{addr, proto, port}, Value: []nft.Field{addr, port}})
	b.AddMap(nft.Map{Name: portsAny, Key: []nft.Field{proto, port}, Value: []nft.Field{addr, port}})

	b.AddChain(nft.Chain{Name: "raw", Type: "filter", Hook: nft.Prerouting, Priority: nft.PriorityRaw})
	b.AddChain(nft.Chain{Name: "publish"})
	b.AddChain(nft.Chain{Name: "prerouting", Type: "nat", Hook: nft.Prerouting, Priority: nft.PriorityDstNAT})
	b.AddChain(nft.Chain{Name: "output", Type: "nat", Hook: nft.Output, Priority: nft.PriorityDstNAT})
	b.AddChain(nft.Chain{Name: "postrouting", Type: "nat", Hook: nft.Postrouting, Priority: nft.PrioritySrcNAT})
	b.AddChain(nft.Chain{Name: "forward", Type: "filter", Hook: nft.Forward, Priority: nft.PriorityFilter})

	rule := func(chain string, parts ...[]nft.Expr) { b.AddRule(chain, slices.Concat(parts...)...) }

	// What is published on 127.0.0.1 is for this host only. DNAT comes before
	// the routing decision that would discard such a packet from outside.
	rule("raw", iif("lo", false), address(nft.DstAddr, loopback()), one(nft.Drop()))

	rule("publish", []nft.Expr{
		nft.DstAddr(0), nft.Meta(unix.NFT_META_L4PROTO, 1), nft.DstPort(2), nft.Lookup(portsAt, 0, 4), nft.DstNAT(4, 5),
	})
	rule("publish", []nft.Expr{
		nft.Meta(unix.NFT_META_L4PROTO, 0), nft.DstPort(1), nft.Lookup(portsAny, 0, 4), nft.DstNAT(4, 5),
	})
	toHost := []nft.Expr{nft.DstType(0), nft.Equal(0, nft.Host(unix.RTN_LOCAL)), nft.Jump("publish")}
	rule("prerouting", toHost)
	rule("output", toHost)

	if p.ipMasq {
		rule("postrouting", address(nft.SrcAddr, p.subnet), oif(p.bridge, false), one(nft.Masquerade()))
	}
	// A container that reaches a container, perhaps itself, through an address
	// of the host must get the answer from there too, not directly.
	rule("postrouting", address(nft.SrcAddr, p.subnet), oif(p.bridge, true), translated(), one(nft.Masquerade()))
	// The host itself, through 127.0.0.1: no answer finds its way back there.
	rule("postrouting", address(nft.SrcAddr, loopback()), oif(p.bridge, true), one(nft.Masquerade()))

	rule("forward", oif(p.bridge, true), state(ctEstablished|ctRelated), one(nft.Accept()))
	between := nft.Accept()
	if !p.icc {
		between = nft.Drop()
	}
	rule("forward", iif(p.bridge, true), oif(p.bridge, true), one(between))
	rule("forward", oif(p.bridge, true), translated(), one(nft.Accept()))
	rule("forward", iif(p.bridge, true), one(nft.Accept()))
	rule("forward", oif(p.bridge, true), one(nft.Drop()))
}

func loopback() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8) }

func one(e nft.Expr) []nft.Expr { return []nft.Expr{e} }

func link(key uint32, name string, equal bool) []nft.Expr {
	if equal {
		return []nft.Expr{nft.Meta(key, 0), nft.Equal(0, nft.Name(name))}
	}
	return []nft.Expr{nft.Meta(key, 0), nft.Differ(0, nft.Name(name))}
}

func iif(name string, equal bool) []nft.Expr { return link(unix.NFT_META_IIFNAME, name, equal) }
func oif(name string, equal bool) []nft.Expr { return link(unix.NFT_META_OIFNAME, name, equal) }

// address matches an address of the packet that is in a subnet.
func address(load func(nft.Reg) nft.Expr, p netip.Prefix) []nft.Expr {
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-p.Bits()))
	return []nft.Expr{load(0), nft.Mask(0, mask), nft.Equal(0, p.Masked().Addr().AsSlice())}
}

// state matches a connection in one of these states.
func state(bits uint32) []nft.Expr {
	return []nft.Expr{nft.CT(unix.NFT_CT_STATE, 0), nft.Mask(0, nft.Host(bits)), nft.Differ(0, nft.Host(0))}
}

// translated matches a connection to a published port.
func translated() []nft.Expr {
	return []nft.Expr{nft.CT(unix.NFT_CT_STATUS, 0), nft.Mask(0, nft.Host(ctDNAT)), nft.Differ(0, nft.Host(0))}
}
