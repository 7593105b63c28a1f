package network

import (
	"errors"
	"log/slog"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
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
	portsFrom = "ports_from" // ip daddr . meta l4proto . th dport . ip saddr, intervals : addr . port

	portsRanges = "ports_ranges" // ip daddr . meta l4proto . th dport, intervals : addr; the port stays
)

// firewall owns one nftables table of each family that is in use. What they
// should hold is kept here, so that they can be made anew whenever somebody
// removed them.
type firewall struct {
	log   *slog.Logger
	table string
	conn  *nft.Conn    // nil: no family has rules
	with  []nft.Family // those that have
	way   detour
	pass  Mark // see Config.Accept

	mu       sync.Mutex // also orders the transactions
	policies []policy
	ports    published
	gates    bool                // there are rules for gated ports
	made     map[nft.Family]bool // the tables that we made, until destroy
	routes   *netlink.Monitor    // nil without gates
	wg       sync.WaitGroup
}

// newFirewall opens nftables, and removes what an earlier process made in a family
// that is to have no rules. Errors: NotImplemented where the kernel has none.
func newFirewall(c Config) (*firewall, error) {
	f := &firewall{log: c.Logger, table: tablePrefix + c.Bridge, way: newDetour(c.Bridge), pass: c.Accept, ports: newPublished(), made: map[nft.Family]bool{}}
	without := map[nft.Family]bool{}
	for _, six := range families() {
		if family := familyIn(six); c.rules(six) {
			f.with = append(f.with, family)
		} else {
			without[family] = true
		}
	}
	conn, err := nft.Dial()
	missing := errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT)
	switch {
	case missing && len(f.with) == 0:
		return f, nil
	case missing:
		return nil, errdefs.NotImplementedf("networks need a kernel with nftables (CONFIG_NETFILTER_NETLINK, CONFIG_NF_TABLES); without, only the networks host and none work (--bridge=none), or networks without rules (--iptables=false --ip6tables=false): %w", err)
	case err != nil:
		return nil, err
	}
	f.conn = conn
	if err := f.remove(without); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if len(f.with) == 0 {
		f.conn = nil
		return f, conn.Close()
	}
	return f, nil
}

// familyIn returns the family of the table for IPv6 or IPv4.
func familyIn(six bool) nft.Family {
	if six {
		return nft.IPv6
	}
	return nft.IPv4
}

// replace makes the tables anew with exactly these networks and ports, in one
// transaction: no packet passes between the old table and the new one.
func (f *firewall) replace(policies []policy, p published) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.policies, f.ports = policies, p
	if len(p.gated) > 0 {
		return f.gateLocked()
	}
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
	for _, family := range f.with {
		there := func(p policy) bool { return len(p.in(family).subnets) > 0 }
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
		addRules(b, f.policies, f.pass)
		if f.gates {
			f.way.addRules(b, f.policies)
		}
		f.ports.add(b)
	}
	if f.conn == nil {
		return nil
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
	gone, come := was.minus(now), now.minus(was)
	if gone.empty() && come.empty() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ports.drop(gone)
	b := nft.NewBatch(f.table)
	for family := range f.made {
		b.In(family)
		gone.del(b, f.ports.gated)
		come.add(b)
	}
	f.ports.join(come)
	if len(f.ports.gated) > 0 && !f.gates {
		return f.orBack(f.gateLocked(), gone, come)
	}
	if f.conn == nil {
		return nil
	}
	err := trace.Begin(trace.Nft, "change elements", f.table).End(f.conn.Commit(b))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EEXIST) { // somebody changed our table
		f.log.Warn("the nftables table was changed from outside and is made anew", "table", f.table, "error", err)
		err = f.rebuildLocked()
	}
	return f.orBack(err, gone, come)
}

// orBack forgets a change that failed.
func (f *firewall) orBack(err error, gone, come published) error {
	if err != nil {
		f.ports.drop(come)
		f.ports.join(gone)
	}
	return err
}

// destroy removes the tables.
func (f *firewall) destroy() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	made := f.made
	f.made = map[nft.Family]bool{}
	return errors.Join(f.ungateLocked(), f.remove(made))
}

// remove removes the tables of some families, if they are there.
func (f *firewall) remove(of map[nft.Family]bool) error {
	if len(of) == 0 {
		return nil
	}
	b := nft.NewBatch(f.table)
	for family := range of {
		b.In(family)
		b.AddTable() // so that there is one to remove
		b.DelTable()
	}
	return trace.Begin(trace.Nft, "delete table", f.table).End(f.conn.Commit(b))
}

func (f *firewall) close() error {
	f.mu.Lock()
	f.unwatchRules()
	f.mu.Unlock()
	f.wg.Wait()
	if f.conn == nil {
		return nil
	}
	return f.conn.Close()
}
