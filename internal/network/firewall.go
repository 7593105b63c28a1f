package network

import (
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
	portsAt   = "ports_at"   // ip daddr . meta l4proto . th dport : addr . port
	portsAny  = "ports_any"  // meta l4proto . th dport : addr . port
	portsOpen = "ports_open" // a set: ip daddr . meta l4proto . th dport of containers
)

// hostPort is a published port as packets arrive for it. An unspecified addr
// stands for every local address.
type hostPort struct {
	proto string
	netip.AddrPort
}

// published is what the firewall knows of ports: where those of the host lead,
// and which of containers in routed networks are open.
type published struct {
	to   map[hostPort]netip.AddrPort
	open map[hostPort]bool
}

// firewall owns one nftables table of each family that is in use. What they
// should hold is kept here, so that they can be made anew whenever somebody
// removed them.
type firewall struct {
	log   *slog.Logger
	table string
	conn  *nft.Conn

	mu       sync.Mutex // also orders the transactions
	policies []policy
	ports    map[hostPort]netip.AddrPort
	open     map[hostPort]bool
	made     map[nft.Family]bool // the tables that we made, until destroy
}

func newFirewall(bridge string, log *slog.Logger) (*firewall, error) {
	conn, err := nft.Dial()
	if err != nil {
		return nil, err
	}
	return &firewall{
		log: log, table: tablePrefix + bridge, conn: conn,
		ports: map[hostPort]netip.AddrPort{}, open: map[hostPort]bool{}, made: map[nft.Family]bool{},
	}, nil
}

// replace makes the tables anew with exactly these networks and ports, in one
// transaction: no packet passes between the old table and the new one.
func (f *firewall) replace(policies []policy, p published) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.policies, f.ports, f.open = policies, maps.Clone(p.to), maps.Clone(p.open)
	return f.rebuildLocked()
}

// govern is replace for the networks only. On error the old ones hold.
func (f *firewall) govern(policies []policy) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.policies
	f.policies = policies
	err := f.rebuildLocked()
	if err != nil {
		f.policies = old
	}
	return err
}

// repair makes the tables anew if one is not there.
func (f *firewall) repair() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for family := range f.made {
		names, err := f.conn.Tables(family)
		if err != nil {
			return err
		}
		if !slices.Contains(names, f.table) {
			f.log.Warn("somebody removed the nftables table; it is made anew", "table", f.table)
			return f.rebuildLocked()
		}
	}
	return nil
}

func (f *firewall) rebuildLocked() error {
	b := nft.NewBatch(f.table)
	made := map[nft.Family]bool{}
	for _, family := range []nft.Family{nft.IPv4, nft.IPv6} {
		there := func(p policy) bool { return p.in(family).subnet.IsValid() }
		need := family == nft.IPv4 || slices.ContainsFunc(f.policies, there)
		if !need && !f.made[family] {
			continue
		}
		b.In(family)
		b.AddTable() // so that there is one to remove
		b.DelTable()
		if !need {
			continue
		}
		made[family] = true
		b.AddTable()
		addRules(b, f.policies)
		addPorts(b, published{f.ports, f.open})
	}
	err := trace.Begin(trace.Nft, "replace table", f.table).End(f.conn.Commit(b))
	if err == nil {
		f.made = made
	}
	return err
}

// change adds and removes ports, all or none. One transaction of one element
// each, however many there are already.
func (f *firewall) change(was, now published) error {
	gone := published{map[hostPort]netip.AddrPort{}, map[hostPort]bool{}}
	come := published{map[hostPort]netip.AddrPort{}, map[hostPort]bool{}}
	for p, to := range was.to {
		if now.to[p] != to {
			gone.to[p] = to
		}
	}
	for p, to := range now.to {
		if was.to[p] != to {
			come.to[p] = to
		}
	}
	for p := range was.open {
		if !now.open[p] {
			gone.open[p] = true
		}
	}
	for p := range now.open {
		if !was.open[p] {
			come.open[p] = true
		}
	}
	if len(gone.to)+len(gone.open)+len(come.to)+len(come.open) == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	b := nft.NewBatch(f.table)
	for family := range f.made {
		b.In(family)
		delPorts(b, gone)
		addPorts(b, come)
	}
	err := trace.Begin(trace.Nft, "change elements", f.table).End(f.conn.Commit(b))
	f.note(gone, come)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EEXIST) { // somebody changed our table
		f.log.Warn("the nftables table was changed from outside and is made anew", "table", f.table, "error", err)
		err = f.rebuildLocked()
	}
	if err != nil {
		f.note(come, gone)
	}
	return err
}

// note keeps what the tables should hold.
func (f *firewall) note(gone, come published) {
	for p := range gone.to {
		delete(f.ports, p)
	}
	for p := range gone.open {
		delete(f.open, p)
	}
	maps.Copy(f.ports, come.to)
	maps.Copy(f.open, come.open)
}

// destroy removes the tables.
func (f *firewall) destroy() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := nft.NewBatch(f.table)
	made := f.made
	f.made = map[nft.Family]bool{}
	if len(made) == 0 {
		return nil
	}
	for family := range made {
		b.In(family)
		b.AddTable()
		b.DelTable()
	}
	return trace.Begin(trace.Nft, "delete table", f.table).End(f.conn.Commit(b))
}

func (f *firewall) close() error { return f.conn.Close() }

// family is the one of the table that has the port.
func (p hostPort) family() nft.Family {
	if p.Addr().Is6() {
		return nft.IPv6
	}
	return nft.IPv4
}

func (p hostPort) key() []byte {
	if p.Addr().IsUnspecified() {
		return nft.Join([]byte{protocol(p.proto)}, nft.Port(p.Port()))
	}
	return p.exact()
}

// exact is the key with an address.
func (p hostPort) exact() []byte {
	return nft.Join(p.Addr().AsSlice(), []byte{protocol(p.proto)}, nft.Port(p.Port()))
}

// elements sorts ports of a family into the maps where they belong.
func (p published) elements(family nft.Family) (at, anyAddr, open []nft.Element) {
	for h, to := range p.to {
		if h.family() != family {
			continue
		}
		e := nft.Element{Key: h.key(), Value: nft.Join(to.Addr().AsSlice(), nft.Port(to.Port()))}
		if h.Addr().IsUnspecified() {
			anyAddr = append(anyAddr, e)
		} else {
			at = append(at, e)
		}
	}
	for h := range p.open {
		if h.family() == family {
			open = append(open, nft.Element{Key: h.exact()})
		}
	}
	return at, anyAddr, open
}

func addPorts(b *nft.Batch, p published) {
	at, anyAddr, open := p.elements(b.Family())
	b.AddElements(portsAt, at)
	b.AddElements(portsAny, anyAddr)
	b.AddElements(portsOpen, open)
}

func delPorts(b *nft.Batch, p published) {
	at, anyAddr, open := p.elements(b.Family())
	b.DelElements(portsAt, at)
	b.DelElements(portsAny, anyAddr)
	b.DelElements(portsOpen, open)
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
