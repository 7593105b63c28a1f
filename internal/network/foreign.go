package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/network/cni"
	"lade/internal/network/remote"
	"lade/internal/trace"
)

// driverCNI is the driver of networks that plugins of the Container Network
// Interface make; optConf names their configuration.
const (
	driverCNI = "cni"
	optConf   = "conf"
)

// pluginPatience is how long a plugin may take for one answer.
const pluginPatience = 30 * time.Second

// foreign is a network whose interfaces another program makes: CNI's plugins, or
// the plugin that is the driver.
type foreign struct {
	driver string
	cni    *cni.Conf // nil: a driver that is a plugin
}

// bridged reports whether the network has a bridge of this host.
func (b *bridge) bridged() bool { return b.children == nil && b.foreign == nil }

// Drivers returns the drivers of networks that are built in, in order. What the
// kernel lacks is said when a network is created.
func Drivers() []string {
	return []string{driverBridge, driverCNI, "host", driverIPVLAN, driverMacvlan, "null", driverOverlay}
}

// foreignDriver reports whether networks of a driver are another program's.
func foreignDriver(name string) bool {
	switch name {
	case "", "default", driverBridge, driverMacvlan, driverIPVLAN, driverOverlay, "host", "null":
		return false
	}
	return true
}

// checkForeign looks whether there is who makes the network. Errors: NotFound, in
// Docker's words; Invalid.
func (n *Networks) checkForeign(q network.CreateRequest) error {
	if q.Driver != driverCNI {
		_, err := n.c.Plugins.Find(q.Driver)
		return err
	}
	for name := range q.Options {
		if name != optConf {
			return badOption(name, q.Options[name], errors.New("there is no such option of a CNI network"))
		}
	}
	if q.Options[optConf] == "" {
		return errdefs.Invalidf("a CNI network needs the name of its configuration: --opt conf=NAME")
	}
	if q.IPAM != nil && len(q.IPAM.Config) > 0 || q.Internal || q.EnableIPv6 != nil && *q.EnableIPv6 {
		return errdefs.Invalidf("the addresses of a CNI network, and where they lead, are its configuration's business: no --subnet, --ipv6, --internal")
	}
	return nil
}

// openForeign tells the driver of a new network.
func (n *Networks) openForeign(ctx context.Context, b *bridge, u *userNetwork) error {
	if b.foreign.cni != nil {
		return nil
	}
	q := remote.Network{ID: b.id, Options: u.Options, Internal: u.Internal}
	for _, six := range families() {
		for _, s := range b.side(six).blocks() {
			p := remote.Pool{AddressSpace: "LocalDefault", Pool: s.subnet, Gateway: netip.PrefixFrom(s.gateway, s.subnet.Bits())}
			for _, c := range u.Pools {
				if c.Subnet.Masked() == s.subnet && len(c.AuxAddress) > 0 {
					p.AuxAddresses = c.AuxAddress
				}
			}
			if six {
				q.IPv6 = append(q.IPv6, p)
			} else {
				q.IPv4 = append(q.IPv4, p)
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, pluginPatience)
	defer cancel()
	d := remote.New(b.foreign.driver, n.c.Plugins)
	defer d.Close()
	return d.CreateNetwork(ctx, q)
}

// closeForeign gives back what is still held for a network, and tells its driver
// that it is removed. A driver that is gone for good must not keep the network.
func (n *Networks) closeForeign(b *bridge) error {
	if b.foreign == nil {
		return nil
	}
	for _, h := range n.holds.all() {
		if h.NetworkID == b.id {
			n.holds.giveBack(h, nil)
			if err := n.holds.forget(h); err != nil { // nobody will ask again
				return err
			}
		}
	}
	if b.foreign.cni != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), pluginPatience)
	defer cancel()
	d := remote.New(b.foreign.driver, n.c.Plugins)
	defer d.Close()
	err := d.DeleteNetwork(ctx, b.id)
	if k := errdefs.KindOf(err); k == errdefs.NotFound || k == errdefs.Unavailable {
		n.log.Warn("a network is removed without its driver", "network", b.network, "error", err)
		return nil
	}
	return err
}

// guest makes the interface of one endpoint by another program: it is the source
// of the network's interfaces.
type guest struct {
	n *Networks
	b *bridge
	c *containerRecord
	e *endpointRecord
}

func (g guest) take() (*slot, error) { return g.try(netns.New, g.e.Inside, true) }

func (g guest) make(unshare inNew, name string) (*slot, error) { return g.try(unshare, name, true) }

func (g guest) add(ns *os.File, name string) (*slot, error) {
	s, err := g.try(madeIn(ns), name, false)
	if err != nil || !s.done {
		return s, err
	}
	// Which of its networks has a container's default route is not the plugins'
	// to say: reroute does.
	var r netlink.Request
	for _, via := range g.e.Via {
		if via.IsValid() {
			r.DelDefaultRoute(s.device, via)
		}
	}
	if err := s.conn.Do(&r); err != nil && !errors.Is(err, unix.ESRCH) {
		g.n.holds.part(g.e, s.ns)
		s.close()
		return nil, err
	}
	return s, nil
}

// try has the interface made in a namespace. A fresh one gets lo and the
// parameters that Docker's containers have.
func (g guest) try(unshare inNew, name string, fresh bool) (*slot, error) {
	s := &slot{inside: name}
	var err error
	s.ns, err = unshare(func(*os.File) (err error) {
		if s.conn, err = netlink.Dial(unix.NETLINK_ROUTE); err != nil || !fresh {
			return err
		}
		var r netlink.Request
		r.SetUp(loIndex, "")
		return errors.Join(s.conn.Do(&r), defaults())
	})
	if err != nil {
		s.close()
		return nil, err
	}
	h := &hold{Endpoint: g.e.ID, NetworkID: g.b.id, Driver: g.b.foreign.driver, CNI: g.b.foreign.cni, Inside: name, MAC: g.e.MAC}
	if g.b.foreign.cni != nil {
		err = g.byCNI(s, h)
	} else {
		err = g.byDriver(s, h)
	}
	if err != nil {
		g.n.holds.giveBack(h, s.ns)
		s.close()
		return nil, err
	}
	g.e.Maker = h.Driver
	return s, nil
}

// byCNI has the plugins of CNI make the interface, with addresses and routes.
func (g guest) byCNI(s *slot, h *hold) error {
	if e, _ := g.n.gatewayOf(g.c, false); e == nil && h.CNI.Can("portMappings") { // else they lead to another network
		h.Ports = cniPorts(g.c.Asked)
	}
	if h.MAC != "" && !h.CNI.Can("mac") {
		return errdefs.Invalidf("no plugin of the CNI configuration %s takes a MAC address", h.CNI.Name)
	}
	if err := g.n.holds.note(h); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), pluginPatience)
	defer cancel()
	result, err := h.CNI.Add(ctx, g.n.holds.call(h, s.ns))
	h.Result = result
	if err == nil {
		err = g.n.holds.note(h)
	}
	if err != nil {
		return err
	}
	got, err := cni.Read(result, h.Inside)
	if err != nil {
		return err
	}
	l, err := s.conn.LinkState(0, h.Inside)
	if err != nil {
		return errdefs.Internalf("the plugins of the CNI configuration %s made no interface %s: %w", h.CNI.Name, h.Inside, err)
	}
	s.device, s.done = l.Index, true
	g.e.IPv4, g.e.IPv6, g.e.MAC = got.IPv4, got.IPv6, macOf(l)
	g.e.Via = [2]netip.Addr{got.Gateway, got.Gateway6}
	return nil
}

// byDriver has the driver make an interface on the host, and takes it into the
// container.
func (g guest) byDriver(s *slot, h *hold) error {
	if err := g.n.holds.note(h); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), pluginPatience)
	defer cancel()
	d := remote.New(h.Driver, g.n.c.Plugins)
	defer d.Close()
	at := remote.Endpoint{NetworkID: h.NetworkID, EndpointID: h.Endpoint}
	i := remote.Interface{MacAddress: g.e.MAC}
	if g.e.IPv4.IsValid() {
		i.Address = g.e.IPv4.String()
	}
	if g.e.IPv6.IsValid() {
		i.AddressIPv6 = g.e.IPv6.String()
	}
	i, err := d.CreateEndpoint(ctx, at, i, map[string]any{})
	if err != nil {
		return err
	}
	j, err := d.Join(ctx, at, g.c.Sandbox, map[string]any{})
	if err != nil {
		return err
	}
	h.Link = j.Link
	if err := g.n.holds.note(h); err != nil {
		return err
	}
	l, err := g.n.rt.LinkState(0, j.Link)
	if err != nil {
		return errdefs.Internalf("the driver %s names an interface %s that is not there: %w", h.Driver, j.Link, err)
	}
	var r netlink.Request
	r.MoveLink(l.Index, int(s.ns.Fd()), h.Inside)
	if err := trace.Begin(trace.Net, "move link", j.Link).End(g.n.rt.Do(&r)); err != nil {
		return fmt.Errorf("take the interface %s into the container: %w", j.Link, err)
	}
	if l, err = s.conn.LinkState(0, h.Inside); err != nil {
		return err
	}
	s.device, s.routes = l.Index, j.Routes
	g.e.MAC = i.MacAddress
	if g.e.MAC == "" {
		g.e.MAC = macOf(l)
	}
	if !j.NoGateway {
		g.e.Via = [2]netip.Addr{j.Gateway, j.GatewayIPv6}
	}
	r.Reset()
	r.SetMAC(s.device, g.e.mac())
	r.SetUp(s.device, "")
	if err := s.conn.Do(&r); err != nil {
		return err
	}
	_, err = settle(s.conn, s.device, "")
	return err
}

func macOf(l netlink.Link) string { return net.HardwareAddr(l.MAC).String() }

// cniPorts are the published ports that have a number, as the plugins want them.
func cniPorts(all []Publish) (out []cni.Port) {
	for _, p := range all {
		if p.HostPort == 0 {
			continue
		}
		port := cni.Port{HostPort: p.HostPort, ContainerPort: p.Port, Protocol: p.Proto}
		if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
			port.HostIP = p.HostIP.String()
		}
		out = append(out, port)
	}
	return out
}

// recall gives back what plugins hold for endpoints that nobody has, after a
// crash.
func (n *Networks) recall() {
	for _, h := range n.holds.all() {
		if _, ok := n.ownerOf(h.Endpoint); !ok {
			n.holds.giveBack(h, nil)
		}
	}
}

// review asks CNI's plugins whether what they made for containers that run is as
// they made it; the log tells what is not.
func (n *Networks) review() {
	for _, h := range n.holds.all() {
		if id, ok := n.ownerOf(h.Endpoint); ok && h.CNI != nil {
			n.checkHold(id, h)
		}
	}
}

// checkHold asks CNI's plugins about the interface of a container that runs, in
// that container's turn.
func (n *Networks) checkHold(id string, h *hold) {
	v := n.visitor()
	if v == nil {
		return
	}
	v(id, func(ctx context.Context, ns *os.File) error {
		ctx, cancel := context.WithTimeout(ctx, pluginPatience)
		defer cancel()
		if err := h.CNI.Check(ctx, n.holds.call(h, ns), h.Result); err != nil {
			n.log.Warn("the interface of a container is not as its CNI plugins made it", "container", id, "interface", h.Inside, "error", err)
		}
		return nil
	})
}
