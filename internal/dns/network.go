package dns

import (
	"net/netip"
	"strings"
	"sync/atomic"
)

// Host is a container as its network knows it. Its addresses are called by the
// first of its names. A label has 63 bytes (RFC 1035, 2.3.4), so that nobody can
// ask for an id of 64 digits.
type Host struct {
	Names     []string
	Addresses []netip.Addr
}

// Network holds the names of one network. The zero value has none.
type Network struct{ current atomic.Pointer[table] }

// table is what a network has at a time.
type table struct {
	name  string // of the network, in lower case; "" is not asked for
	shown string // as the user wrote it
	hosts []Host
	addrs map[string][]netip.Addr
	names map[netip.Addr]string
}

// Set replaces name and hosts of the network, which keeps hosts.
func (n *Network) Set(name string, hosts []Host) {
	t := &table{name: strings.ToLower(name), shown: name, hosts: hosts, addrs: map[string][]netip.Addr{}, names: map[netip.Addr]string{}}
	for _, h := range hosts {
		seen := map[string]bool{}
		for _, name := range h.Names {
			if name = strings.ToLower(name); name != "" && !seen[name] {
				seen[name] = true
				t.addrs[name] = append(t.addrs[name], h.Addresses...)
			}
		}
		for _, a := range h.Addresses {
			if _, taken := t.names[a]; !taken && len(h.Names) > 0 {
				t.names[a] = h.Names[0]
			}
		}
	}
	n.current.Store(t)
}

// Hosts returns what Set was given.
func (n *Network) Hosts() (name string, hosts []Host) {
	t := n.table()
	return t.shown, t.hosts
}

func (n *Network) table() *table {
	if t := n.current.Load(); t != nil {
		return t
	}
	return &table{}
}
