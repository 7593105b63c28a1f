package network

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/ids"
	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/trace"
)

// The drivers whose networks have children of a link of the host in the place of
// a bridge, by the kinds of these.
const (
	driverMacvlan = "macvlan"
	driverIPVLAN  = "ipvlan"
)

// Their options, in Docker's words.
const (
	optParent      = "parent"
	optMacvlanMode = "macvlan_mode"
	optIPVLANMode  = "ipvlan_mode"
	optIPVLANFlag  = "ipvlan_flag"
)

// Modes that are more than a number for the kernel.
const (
	modePassthru = "passthru"
	modeL3       = "l3"
	modeL3S      = "l3s"
)

// children says how a network's interfaces hang on a link of the host. They are
// made in the containers' namespaces and have no end in the host; what they send
// leaves by the parent and passes no rule of ours.
type children struct {
	kind   string // driverMacvlan or driverIPVLAN
	parent string // name of the link
	dummy  bool   // nobody named a parent: it is a link of ours that leads nowhere
	mode   string
	flag   string // of ipvlan
}

// childGroup marks our children ("lade"): one that a crash left in the namespace
// of a container that runs is found by it.
const childGroup = 0x6c616465

// readChildren reads the options of a macvlan or ipvlan network. Without a parent
// it is internal, as in Docker.
func (b *bridge) readChildren(driver string, o map[string]string) error {
	c := &children{kind: driver, mode: "bridge"}
	if driver == driverIPVLAN {
		c.mode, c.flag = "l2", "bridge"
	}
	b.children = c
	for name, v := range o {
		var err error
		switch {
		case name == optParent:
			c.parent = v
			if v != "" {
				err = checkBridge(v)
			}
		case name == optMacvlanMode && driver == driverMacvlan:
			c.mode = cmp.Or(v, c.mode)
			if _, ok := macvlanModes()[c.mode]; !ok {
				return errdefs.Invalidf("requested macvlan mode '%s' is not valid, 'bridge' mode is the macvlan driver default", v)
			}
		case name == optIPVLANMode && driver == driverIPVLAN:
			c.mode = cmp.Or(v, c.mode)
			if _, ok := ipvlanModes()[c.mode]; !ok {
				return errdefs.Invalidf("requested ipvlan mode '%s' is not valid, 'l2' mode is the ipvlan driver default", v)
			}
		case name == optIPVLANFlag && driver == driverIPVLAN:
			c.flag = cmp.Or(v, c.flag)
			if _, ok := ipvlanFlags()[c.flag]; !ok {
				return errdefs.Invalidf("requested ipvlan flag '%s' is not valid, 'bridge' is the ipvlan driver default", v)
			}
		case name == optMTU:
			b.mtu, err = parseMTU(v)
		case name == optIPv4, name == optIPv6:
		case strings.HasPrefix(name, "com.docker.network."), strings.HasPrefix(name, "lade."):
			err = fmt.Errorf("there is no such option of a %s network", driver)
		}
		if err != nil {
			return badOption(name, v, err)
		}
	}
	switch c.parent {
	case "lo":
		return errdefs.Invalidf("loopback interface is not a valid %s parent link", driver)
	case "":
		c.dummy, b.internal = true, true
		c.parent = map[string]string{driverMacvlan: "dm-", driverIPVLAN: "di-"}[driver] + ids.Truncate(b.id)
	}
	return nil
}

func macvlanModes() map[string]uint32 {
	return map[string]uint32{
		"bridge": netlink.MacvlanBridge, "private": netlink.MacvlanPrivate, "vepa": netlink.MacvlanVEPA, modePassthru: netlink.MacvlanPassthru,
	}
}

func ipvlanModes() map[string]uint16 {
	return map[string]uint16{"l2": netlink.IPVLANL2, modeL3: netlink.IPVLANL3, modeL3S: netlink.IPVLANL3S}
}

func ipvlanFlags() map[string]uint16 {
	return map[string]uint16{"bridge": 0, "private": netlink.IPVLANPrivate, "vepa": netlink.IPVLANVEPA}
}

// routed reports whether the kernel routes between the children and the parent:
// there is no neighbour to resolve, and the default route is the interface.
func (c *children) routed() bool { return c.mode == modeL3 || c.mode == modeL3S }

// ownMAC reports whether each child has a hardware address that is to be chosen.
func (c *children) ownMAC() bool { return c.kind == driverMacvlan && c.mode != modePassthru }

// checkMAC refuses a hardware address that a child cannot have, in Docker's
// words.
func (c *children) checkMAC(mac net.HardwareAddr) error {
	if mac != nil && c.kind == driverIPVLAN {
		return errdefs.Invalidf("ipvlan interfaces do not support custom mac address assignment")
	}
	return nil
}

// hardware returns the hardware address of a child: always the same for an
// address of a network, so that a neighbour's entry stays true when another
// container gets it, and unlike those of other networks, and engines, on the
// wire.
func (c *children) hardware(networkID string, ip netip.Addr) net.HardwareAddr {
	sum := sha256.Sum256([]byte(networkID + " " + ip.String()))
	return append(net.HardwareAddr{0x02, 0x42}, sum[:4]...)
}

// addressesOfChildren sets up one subnet. The gateway is what the creator named,
// if anything, as in Docker since 29: nothing of ours answers to it.
func (b *bridge) addressesOfChildren(s *block, gateway netip.Addr, within netip.Prefix, aux []netip.Addr) error {
	s.gateway = gateway
	switch {
	case b.internal:
		s.gateway = netip.Addr{}
	case b.children.routed() && s.subnet.Addr().Is4():
		s.gateway = netip.IPv4Unspecified()
	case b.children.routed():
		s.gateway = netip.IPv6Unspecified()
	}
	return s.open(within, append(aux, gateway)...)
}

// share refuses a parent that cannot be another network's as well.
func (c *children) share(id string, o *children) error {
	switch {
	case o.parent != c.parent:
		return nil
	case o.kind != c.kind:
		return errdefs.Forbiddenf("%s network %s is already using parent interface %s: the kernel has either %s or %s on a link", o.kind, id, c.parent, o.kind, c.kind)
	case c.kind == driverIPVLAN:
		return errdefs.Forbiddenf("network di-%s is already using parent interface %s", ids.Truncate(id), c.parent)
	case c.mode == modePassthru:
		return errdefs.Forbiddenf("cannot use mode passthru, macvlan network %s is already using parent interface %s", id, c.parent)
	case o.mode == modePassthru:
		return errdefs.Forbiddenf("macvlan network %s is already using parent interface %s in mode passthru", id, c.parent)
	}
	return nil
}

// checkParent is checkLink for a network of children.
func (n *Networks) checkParent(b *bridge) (made bool, err error) {
	for _, o := range n.allBridges() {
		if o.children != nil {
			if err := b.children.share(o.id, o.children); err != nil {
				return false, err
			}
		}
	}
	if err := b.children.check(n.rt); err != nil {
		return false, err
	}
	_, err = n.rt.LinkState(0, b.children.parent)
	return errors.Is(err, unix.ENODEV) || n.inherits(b), b.children.notFound(err)
}

// check refuses a parent that is not there and cannot be made, and a kernel
// without the driver.
func (c *children) check(rt *netlink.Conn) error {
	if !rt.HasKind(c.kind) {
		return errdefs.NotImplementedf("the kernel has no %s (CONFIG_%s): operation not supported", c.kind, strings.ToUpper(c.kind))
	}
	_, err := rt.LinkState(0, c.parent)
	if !errors.Is(err, unix.ENODEV) || c.dummy {
		return c.notFound(err)
	}
	_, _, err = c.vlan(rt)
	return err
}

// notFound lets the own link be missing.
func (c *children) notFound(err error) error {
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// vlan returns the link and the tag that the parent's name stands for: the
// sub-interface eth0.50 of eth0. Errors: Invalid, in Docker's words.
func (c *children) vlan(rt *netlink.Conn) (base netlink.Link, tag uint16, err error) {
	i := strings.LastIndexByte(c.parent, '.')
	if i < 0 {
		return base, 0, errdefs.Invalidf("invalid subinterface vlan name %s, example formatting is eth0.10", c.parent)
	}
	v, err := strconv.Atoi(c.parent[i+1:])
	if err != nil {
		return base, 0, errdefs.Invalidf("unable to parse a valid vlan id from: %s (ex. eth0.10 for vlan 10)", c.parent[i+1:])
	}
	base, err = rt.LinkState(0, c.parent[:i])
	if errors.Is(err, unix.ENODEV) {
		return base, 0, errdefs.Invalidf("-o parent interface was not found on the host: %s", c.parent[:i])
	}
	if v < 1 || v > 4094 {
		return base, 0, errdefs.Invalidf("vlan id must be between 1-4094, received: %d", v)
	}
	return base, uint16(v), err
}

// make creates the parent if it is ours to make, and returns it. A kernel without
// dummy links has an ifb for it, which drops what nobody leads to it.
func (c *children) make(rt *netlink.Conn) (link netlink.Link, made bool, err error) {
	link, err = rt.LinkState(0, c.parent)
	if !errors.Is(err, unix.ENODEV) {
		return link, false, err
	}
	span := trace.Begin(trace.Net, "create parent", c.parent)
	if err := span.End(c.create(rt)); err != nil && !errors.Is(err, unix.EEXIST) {
		return link, false, err
	}
	var r netlink.Request
	r.SetUp(0, c.parent)
	if err := rt.Do(&r); err != nil {
		return link, true, fmt.Errorf("failed to enable %s the %s parent link: %w", c.parent, c.kind, err)
	}
	link, err = rt.LinkState(0, c.parent)
	return link, true, err
}

func (c *children) create(rt *netlink.Conn) error {
	var r netlink.Request
	if c.dummy {
		r.AddDummy(c.parent)
		err := rt.Do(&r)
		if errors.Is(err, unix.EOPNOTSUPP) {
			r.Reset()
			r.AddIFB(c.parent)
			err = rt.Do(&r)
		}
		return err
	}
	base, tag, err := c.vlan(rt)
	if err != nil {
		return err
	}
	r.AddVLAN(netlink.Child{Name: c.parent, Parent: base.Index}, tag)
	if err := rt.Do(&r); err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) {
			return errdefs.NotImplementedf("failed to create %s vlan link: the kernel has no 802.1Q (CONFIG_VLAN_8021Q): operation not supported", c.parent)
		}
		if errors.Is(err, unix.EEXIST) {
			return errdefs.Forbiddenf("failed to create %s vlan link: %s has the tag %d by another name: file exists", c.parent, base.Name, tag)
		}
		return fmt.Errorf("failed to create %s vlan link: %w", c.parent, err)
	}
	return nil
}

// add writes the request for one child.
func (c *children) add(r *netlink.Request, l netlink.Child) {
	if c.kind == driverMacvlan {
		r.AddMacvlan(l, macvlanModes()[c.mode])
	} else {
		r.AddIPVLAN(l, ipvlanModes()[c.mode], ipvlanFlags()[c.flag])
	}
}

// nursery makes the interface of one endpoint, a child of its network's parent.
type nursery struct {
	n *Networks
	b *bridge
	e *endpointRecord
}

func (y nursery) take() (*slot, error) { return y.try(netns.New, y.e.Inside, true) }

func (y nursery) make(unshare inNew, name string) (*slot, error) { return y.try(unshare, name, true) }

func (y nursery) add(ns *os.File, name string) (*slot, error) {
	s, err := y.try(madeIn(ns), name, false)
	if errors.Is(err, unix.EEXIST) && y.n.removeChild(ns, name) { // left by a crash
		s, err = y.try(madeIn(ns), name, false)
	}
	if err != nil {
		y.n.removeChild(ns, name)
	}
	return s, err
}

// try makes the child in a namespace, with the hardware address of its endpoint.
// A fresh namespace gets lo and the parameters that Docker's containers have.
func (y nursery) try(unshare inNew, name string, fresh bool) (*slot, error) {
	c := y.b.children
	parent, made, err := c.make(y.n.rt)
	if err != nil {
		return nil, fmt.Errorf("the requested parent interface %s was not found on the Docker host: %w", c.parent, err)
	}
	if made {
		y.n.log.Warn("somebody removed the parent of a network's interfaces; it is made anew", "network", y.b.network, "parent", c.parent)
		if err := y.n.setMade(context.Background(), y.b.network, true); err != nil {
			return nil, err
		}
	}
	s := &slot{inside: name}
	span := trace.Begin(trace.Net, "prepare namespace", c.parent)
	s.ns, err = unshare(func(ns *os.File) (err error) {
		if s.conn, err = netlink.Dial(unix.NETLINK_ROUTE); err != nil {
			return err
		}
		if fresh {
			if err := defaults(); err != nil {
				return err
			}
		}
		return y.connect(s, parent, ns)
	})
	if err == nil {
		y.e.Kind = c.kind
		y.e.NSID, err = y.n.rt.NSID(s.ns)
	}
	if span.End(err) != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// connect makes the child of s, from inside its namespace.
func (y nursery) connect(s *slot, parent netlink.Link, ns *os.File) error {
	c := y.b.children
	var r netlink.Request
	c.add(&r, netlink.Child{Name: s.inside, Parent: parent.Index, NS: ns, MTU: y.b.mtu, MAC: y.e.mac(), Group: childGroup})
	if err := y.n.rt.Do(&r); err != nil {
		switch {
		case errors.Is(err, unix.EINVAL) && c.mode == modePassthru:
			return errdefs.Conflictf("failed to create the macvlan port: parent interface %s is in mode passthru, which only one container can use: %w", c.parent, err)
		case errors.Is(err, unix.EINVAL) && y.b.mtu > parent.MTU:
			return errdefs.Invalidf("failed to create the %s port: the MTU %d is larger than that of the parent interface %s, %d: %w", c.kind, y.b.mtu, c.parent, parent.MTU, err)
		}
		return fmt.Errorf("failed to create the %s port: %w", c.kind, err)
	}
	if err := y.announce(s.inside); err != nil {
		return err
	}
	r.Reset()
	r.SetUp(loIndex, "")
	if err := s.conn.Do(&r); err != nil {
		return err
	}
	link, err := s.conn.LinkState(0, s.inside)
	s.device = link.Index
	return err
}

// announce lets an interface in the namespace of the calling thread tell its
// neighbours of each address that it gets: they may know another hardware
// address for it, of another container or host. Without IPv6 on the network it
// has none.
func (y nursery) announce(name string) error {
	err := netns.Sysctl("net/ipv4/conf/"+name+"/arp_notify", "1")
	if err == nil && y.b.v6.subnet.IsValid() {
		err = netns.Sysctl("net/ipv6/conf/"+name+"/ndisc_notify", "1")
	} else if err == nil {
		err = disable6(name)
	}
	return err
}

// removeChild removes a child of ours from the namespace of a container and
// reports whether there was one.
func (n *Networks) removeChild(ns *os.File, name string) bool {
	var conn *netlink.Conn
	err := netns.Do(ns, func() (err error) {
		conn, err = netlink.Dial(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		n.log.Warn("cannot enter the namespace of a container", "error", err)
		return false
	}
	defer conn.Close()
	l, err := conn.LinkState(0, name)
	if err != nil || l.Group != childGroup || !slices.Contains([]string{driverMacvlan, driverIPVLAN}, l.Kind) {
		return false
	}
	var r netlink.Request
	r.DelLink(l.Index)
	err = trace.Begin(trace.Net, "delete link", name).End(conn.Do(&r))
	if err != nil && !errors.Is(err, unix.ENODEV) {
		n.log.Warn("cannot remove a network interface", "link", name, "error", err)
	}
	return err == nil
}

// removeEnd takes the interface of an endpoint out of a container.
func (n *Networks) removeEnd(ns *os.File, e *endpointRecord) {
	switch {
	case e.Maker != "":
		n.holds.part(e, ns)
	case e.Kind != "":
		n.removeChild(ns, e.Inside)
	case e.Link != "":
		n.delEnd(e.Link)
	}
}

// orphan removes the children of a container that ended: its namespace goes in
// the background, and until then nobody else can have their addresses on the
// parent.
func (n *Networks) orphan(c *containerRecord) {
	for _, e := range c.Endpoints {
		if e.Kind == "" {
			continue
		}
		var r netlink.Request
		r.DelLinkOf(e.NSID, e.Inside)
		err := trace.Begin(trace.Net, "delete link", e.Inside).End(n.rt.Do(&r))
		if err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EINVAL) { // it has gone
			n.log.Warn("cannot remove the interface of a container", "container", c.Name, "interface", e.Inside, "error", err)
		}
	}
}

// appear gives a child its addresses and turns it on: IPv4 before, because it
// tells the wire of it as it comes up, and IPv6 after, because it then tells of
// each. The kernel refuses an address for as long as another child has it which
// is going away with its namespace, in the background.
func (s *slot) appear(e *endpointRecord) error {
	var steps []func(*netlink.Request)
	if e.IPv4.IsValid() {
		steps = append(steps, func(r *netlink.Request) { r.AddAddr(s.device, e.IPv4) })
	}
	steps = append(steps, func(r *netlink.Request) { r.SetUp(s.device, "") })
	if e.IPv6.IsValid() {
		steps = append(steps, func(r *netlink.Request) { r.AddAddr(s.device, e.IPv6) })
	}
	const tries, between = 400, 5 * time.Millisecond
	for _, step := range steps {
		for try := 0; ; try++ {
			var r netlink.Request
			step(&r)
			err := s.conn.Do(&r)
			if err == nil {
				break
			}
			if try == tries || !errors.Is(err, unix.EADDRINUSE) && !errors.Is(err, unix.EBUSY) {
				return err
			}
			<-time.After(between)
		}
	}
	return nil
}

// forsake removes the parent of a network that is removed, if it is ours and no
// other network's.
func (n *Networks) forsake(b *bridge) error {
	for _, o := range n.allBridges() {
		if o != b && o.children != nil && o.children.parent == b.children.parent {
			return nil
		}
	}
	l, err := n.rt.LinkState(0, b.children.parent)
	if err == nil && slices.Contains([]string{"dummy", "ifb", "vlan"}, l.Kind) {
		err = delLink(n.rt, l)
	}
	return b.children.notFound(err)
}
