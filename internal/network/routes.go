package network

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
)

// A subnet is chosen so that it collides with nothing that the host reaches.
// What the host reaches later, by a VPN that comes up, is out of our hands: it is
// told, in the log at once and in the warnings of "info" for as long as it lasts,
// and new networks avoid it.

// conflict is a route of the host to addresses of one of our networks.
type conflict struct {
	network     string
	subnet, dst netip.Prefix
	link        string
}

func (c conflict) String() string {
	return fmt.Sprintf("WARNING: The host's route to %s through %s overlaps the subnet %s of the network %s: containers there cannot be reached, or not those behind the route", c.dst, c.link, c.subnet, c.network)
}

// reached tells of a new route that overlaps one of our networks.
func (n *Networks) reached(rt netlink.Route) {
	for _, c := range n.collide(rt) {
		n.log.Warn("a route of the host overlaps the subnet of a network", "network", c.network, "subnet", c.subnet, "route", c.dst, "link", c.link)
	}
}

// Conflicts returns a sentence for each route of the host that leads to addresses
// of one of our networks elsewhere.
func (n *Networks) Conflicts() ([]string, error) {
	routes, err := n.rt.AllRoutes()
	var out []string
	for _, rt := range routes {
		for _, c := range n.collide(rt) {
			out = append(out, c.String())
		}
	}
	return out, err
}

// tellConflicts tells of all of them, as the engine starts.
func (n *Networks) tellConflicts() {
	routes, err := n.rt.AllRoutes()
	if err != nil {
		n.log.Warn("cannot list the host's routes", "error", err)
	}
	for _, rt := range routes {
		n.reached(rt)
	}
}

// collide returns the networks that a route overlaps. Those of children are on
// somebody else's wire: that the host has a route there is as it should be.
func (n *Networks) collide(rt netlink.Route) (out []conflict) {
	if rt.Dst.Bits() == 0 || rt.Type != unix.RTN_UNICAST || rt.Table == unix.RT_TABLE_LOCAL || rt.Index == 0 {
		return nil
	}
	var link netlink.Link
	for _, b := range n.allBridges() {
		all := b.side(rt.Dst.Addr().Is6()).subnets()
		i := slices.IndexFunc(all, rt.Dst.Overlaps)
		if !b.bridged() || i < 0 {
			continue
		}
		if link.Index == 0 {
			var err error
			if link, err = n.rt.LinkState(rt.Index, ""); err != nil { // it went with its link
				return nil
			}
		}
		if link.Name != b.link {
			out = append(out, conflict{b.network, all[i], rt.Dst.Masked(), link.Name})
		}
	}
	return out
}
