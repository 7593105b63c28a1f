package network

import (
	"errors"
	"hash/fnv"
	"os"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
	"lade/internal/linux/nft"
	"lade/internal/trace"
)

// The publish policies: who takes a connection to a published port.
const (
	// PolicyDNAT translates addresses: packets are forwarded into the container.
	PolicyDNAT = "dnat"
	// PolicyGate is a socket of the host, whose INPUT rules hold (see package gate).
	PolicyGate = "gate"
)

// portsGated is the set of ports that the gate serves: meta l4proto . th dport.
const portsGated = "ports_gated"

// detour brings what containers answer to the gate's sockets, which have the
// addresses of clients, back to these sockets instead of on to the clients:
//
//	gate ── mark out ──► output: the connection gets the mark back
//	container ──► prerouting: a packet of such a connection gets the mark back
//	          ──► rule of the host: mark back, table back: local default dev lo
//
// Marks and table are of one engine.
type detour struct {
	out, back uint32
}

// rulePriority is that of the host's rule. It comes after the table "local" and
// before all that routes.
const rulePriority = 6878

func newDetour(bridge string) detour {
	h := fnv.New32a()
	h.Write([]byte(bridge))
	n := h.Sum32()&0xffff ^ h.Sum32()>>16
	return detour{out: 0x1adf0000 | n, back: 0x1ade0000 | n}
}

// addRules writes the rules of the present family into a batch.
func (d detour) addRules(b *nft.Batch, policies []policy) {
	_, proto, port := b.Family().Fields()
	b.AddSet(portsGated, proto, port)
	b.AddChain(nft.Chain{Name: "gate_out", Type: "filter", Hook: nft.Output, Priority: nft.PriorityMangle})
	b.AddChain(nft.Chain{Name: "gate_back", Type: "filter", Hook: nft.Prerouting, Priority: nft.PriorityMangle})
	b.AddChain(nft.Chain{Name: "gate_in", Type: "filter", Hook: nft.Input, Priority: nft.PriorityFilter})
	w := writer{b, b.Family()}
	w.rule("gate_out", []nft.Expr{nft.Meta(unix.NFT_META_MARK, 0), nft.Equal(0, nft.Host(d.out)), nft.Load(0, nft.Host(d.back)), nft.SetConnectionMark(0)})
	w.rule("gate_back", []nft.Expr{nft.CT(unix.NFT_CT_MARK, 0), nft.Equal(0, nft.Host(d.back)), nft.SetMark(0)})
	for _, p := range policies {
		if p.internal { // it has no way out, nor one through the host
			w.rule("gate_in", iif(p.link, true), []nft.Expr{
				nft.Meta(unix.NFT_META_L4PROTO, 0), nft.DstPort(1), nft.Contains(portsGated, 0), nft.Drop(),
			})
		}
	}
}

// routed calls f for each family that the host has.
func (d detour) routed(f func(rule netlink.Rule) error) error {
	var errs []error
	for _, six := range families() {
		if six && checkIPv6() != nil {
			continue
		}
		errs = append(errs, f(netlink.Rule{Six: six, Priority: rulePriority, Mark: d.back, Table: d.back}))
	}
	return errors.Join(errs...)
}

// make adds the rules and the routes. It is idempotent.
func (d detour) make() error {
	rt, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer rt.Close()
	span := trace.Begin(trace.Net, "route to the gate", "")
	return span.End(d.routed(func(rule netlink.Rule) error {
		var r netlink.Request
		r.AddLocalRoute(rule.Six, rule.Table)
		if err := rt.Do(&r); err != nil {
			return err
		}
		r.Reset()
		r.AddRule(rule)
		if err := rt.Do(&r); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		return nil
	}))
}

// remove takes them back.
func (d detour) remove() error {
	rt, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer rt.Close()
	return d.routed(func(rule netlink.Rule) error {
		var r netlink.Request
		r.DelRule(rule)
		if err := rt.Do(&r); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		r.Reset()
		r.DelLocalRoute(rule.Six, rule.Table)
		if err := rt.Do(&r); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
	})
}

// gateLocked makes what gated ports need, beside all else that the tables hold.
func (f *firewall) gateLocked() error {
	if err := f.way.make(); err != nil {
		return err
	}
	if f.routes == nil {
		var err error
		if f.routes, err = netlink.Listen(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE); err != nil {
			return err
		}
		f.wg.Go(func() { f.watchRules(f.routes) })
	}
	f.gates = true
	err := f.rebuildLocked()
	if err != nil {
		f.gates = false
	}
	return err
}

// ungateLocked removes what is not in the tables.
func (f *firewall) ungateLocked() error {
	if !f.gates {
		return nil
	}
	f.gates = false
	f.unwatchRules()
	return f.way.remove()
}

func (f *firewall) unwatchRules() {
	if f.routes != nil {
		f.routes.Close()
		f.routes = nil
	}
}

// watchRules makes the rules anew whenever somebody removes them: programs that
// manage routing remove what they do not know.
func (f *firewall) watchRules(m *netlink.Monitor) {
	for {
		gone := false
		err := m.Receive(func(msg netlink.Message) {
			mark, removed := msg.RuleMark()
			gone = gone || removed && mark == f.way.back
		})
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case errors.Is(err, unix.ENOBUFS):
			gone = true
		case err != nil:
			f.log.Error("cannot watch the rules of routing", "error", err)
			return
		}
		if !gone {
			continue
		}
		f.log.Warn("somebody removed the rule that leads to the gate; it is made anew")
		f.mu.Lock()
		if f.gates {
			if err := f.way.make(); err != nil {
				f.log.Error("cannot make the rule that leads to the gate anew", "error", err)
			}
		}
		f.mu.Unlock()
	}
}
