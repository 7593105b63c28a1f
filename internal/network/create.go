package network

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/ids"
	"lade/internal/linux/netlink"
	"lade/internal/netrate"
	"lade/internal/network/ipam"
	"lade/internal/network/overlay"
	"lade/internal/store"
)

// driverBridge is the driver of networks on one host.
const driverBridge = "bridge"

// The options of a network that has a bridge.
const (
	optLink   = "com.docker.network.bridge.name"
	optICC    = "com.docker.network.bridge.enable_icc"
	optMasq   = "com.docker.network.bridge.enable_ip_masquerade"
	optBind   = "com.docker.network.bridge.host_binding_ipv4"
	optMode4  = "com.docker.network.bridge.gateway_mode_ipv4"
	optMode6  = "com.docker.network.bridge.gateway_mode_ipv6"
	optMTU    = "com.docker.network.driver.mtu"
	optPolicy = "lade.publish-policy"
	optBare4  = "com.docker.network.bridge.inhibit_ipv4"
	optTrust  = "com.docker.network.bridge.trusted_host_interfaces"
	optNames  = "com.docker.network.container_iface_prefix"
	optHost4  = "com.docker.network.host_ipv4"
	optHost6  = "com.docker.network.host_ipv6"
	optIPv4   = "com.docker.network.enable_ipv4" // what the daemon's defaults may say
	optIPv6   = "com.docker.network.enable_ipv6"
)

// Create makes a network with a bridge and returns its id. It is recorded first:
// after a crash it is there or it is not.
//
// Errors: Conflict for a name in use, NotFound for a driver that nobody has,
// NotImplemented for one that we do not have, Forbidden for a predefined name or
// a subnet that overlaps another network's, Exhausted when no subnet is free,
// Invalid for a request that cannot be.
func (n *Networks) Create(ctx context.Context, q network.CreateRequest) (id string, err error) {
	var wide *seat
	if q.Driver == driverOverlay { // asks name servers, so before others must wait
		full, err := n.configured(q)
		if err != nil {
			return "", err
		}
		if wide, err = n.findSeat(ctx, full); err != nil {
			return "", err
		}
	}
	id = ids.New()
	full, plugged, err := n.askPlugin(ctx, id, q) // likewise
	if err != nil {
		return "", err
	}
	n.changing.Lock()
	defer n.changing.Unlock()
	recorded := false
	defer func() {
		if plugged != nil && !recorded {
			n.grants.returnOf(id, true)
		}
	}()
	if err := n.checkCreate(q); err != nil {
		return "", err
	}
	if q.ConfigOnly {
		return n.createConfig(ctx, q)
	}
	if q = full; plugged == nil {
		if q, err = n.configured(q); err != nil {
			return "", err
		}
	}
	if err := n.raise(); err != nil {
		return "", err
	}
	u, err := n.complete(q)
	if err == nil && wide != nil {
		err = n.take(wide, u)
	}
	if err != nil {
		return "", err
	}
	u.Granted = plugged
	r := networkRecord{ID: id, Created: time.Now().UTC(), User: u}
	b, err := n.newBridge(q.Name, r)
	if err != nil {
		return "", err
	}
	if r.Made, err = n.checkLink(b); err != nil {
		return "", err
	}
	var batch store.Batch
	if err := putNetwork(&batch, q.Name, r); err != nil {
		return "", err
	}
	if err := n.c.Store.Commit(ctx, &batch); err != nil {
		return "", err
	}
	failpoint.Hit("network.create")
	recorded = true
	n.mu.Lock()
	n.records[q.Name], n.bridges[q.Name] = r, b
	n.mu.Unlock()
	if err := n.establish(ctx, b, u); err != nil {
		return "", errors.Join(err, n.remove(context.WithoutCancel(ctx), q.Name, b, r))
	}
	if b.across != nil {
		n.tell(q.Name)
	}
	return r.ID, nil
}

// establish makes in the kernel, and with other programs, what a new network needs.
func (n *Networks) establish(ctx context.Context, b *bridge, u *userNetwork) (err error) {
	n.follow(b)
	if b.foreign != nil {
		err = n.openForeign(ctx, b, u)
	} else {
		err = n.makeBridge(ctx, b)
	}
	switch {
	case err != nil:
		return err
	case n.monitor == nil:
		return n.guard()
	}
	return n.wall.govern(n.policies())
}

// askPlugin asks an address plugin for what a network is to have of it, once it is
// clear that the network can be; see grants.requestPools.
func (n *Networks) askPlugin(ctx context.Context, id string, q network.CreateRequest) (network.CreateRequest, *granted, error) {
	full, err := n.configured(q)
	if err != nil || pluginOf(full) == "" {
		return q, nil, nil // what is wrong is said when nobody else changes anything
	}
	if err := n.checkCreate(q); err != nil {
		return q, nil, err
	}
	return n.grants.requestPools(ctx, id, full)
}

// checkCreate refuses what is not about addresses.
func (n *Networks) checkCreate(q network.CreateRequest) error {
	switch {
	case strings.TrimSpace(q.Name) == "":
		return errdefs.Invalidf("invalid name: name is empty")
	case strings.ContainsAny(q.Name, "/\x00\n"):
		return errdefs.Invalidf("invalid name %q: a network's name has no slash", q.Name)
	case slices.Contains([]string{network.NetworkBridge, network.NetworkHost, network.NetworkNone, network.NetworkDefault}, q.Name):
		return errdefs.Forbiddenf("operation is not permitted on predefined %s network", q.Name)
	case strings.HasPrefix(q.Name, "container:"):
		return errdefs.Invalidf("invalid name %q: it would stand for a container's network", q.Name)
	case q.Scope == "swarm" && !q.ConfigOnly:
		return errdefs.Forbiddenf("cannot create a swarm scoped network when swarm is not active")
	case q.Scope != "" && q.Scope != "local" && !q.ConfigOnly:
		return errdefs.Invalidf("invalid scope %q: want local", q.Scope)
	case q.Ingress && !q.ConfigOnly:
		return errdefs.Unavailablef("This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.")
	}
	if err := checkConfig(q); err != nil {
		return err
	}
	switch q.Driver {
	case "", "default", driverBridge, driverMacvlan, driverIPVLAN, driverOverlay:
	case "host", "null":
		return errdefs.Forbiddenf("only one instance of %q network is allowed", q.Driver)
	default:
		if err := n.checkForeign(q); err != nil {
			return err
		}
	}
	if _, err := n.Resolve(q.Name); err == nil {
		n.mu.Lock()
		_, same := n.records[q.Name]
		n.mu.Unlock()
		if same { // not a prefix of another one's id
			return errdefs.Conflictf("network with name %s already exists", q.Name)
		}
	}
	if q.IPAM != nil && q.IPAM.Driver != "" && q.IPAM.Driver != "default" {
		_, err := n.c.Plugins.Find(q.IPAM.Driver)
		return err
	}
	return nil
}

// complete returns the network that is asked for, with all addresses.
func (n *Networks) complete(q network.CreateRequest) (*userNetwork, error) {
	u := &userNetwork{Driver: cmp.Or(q.Driver, driverBridge), Options: maps.Clone(q.Options), Labels: maps.Clone(q.Labels), Internal: q.Internal, Attachable: q.Attachable}
	if u.Driver == "default" {
		u.Driver = driverBridge
	}
	if q.ConfigFrom != nil {
		u.From = q.ConfigFrom.Network
	}
	if u.Driver == driverCNI {
		var err error
		u.CNI, err = n.c.CNI.Find(q.Options[optConf])
		return u, err
	}
	enabled, err := families4and6(q)
	if err != nil {
		return nil, err
	}
	asked := map[bool][]network.IPAMConfig{}
	if q.IPAM != nil {
		u.IPAMDriver, u.IPAMOptions = pluginOf(q), maps.Clone(q.IPAM.Options)
		if err := checkIPAM(q.IPAM.Config, enabled); err != nil {
			return nil, err
		}
		for _, c := range q.IPAM.Config {
			six := familyOf(c)
			if asked[six] != nil && u.Driver == driverBridge {
				return nil, errdefs.Forbiddenf("%s driver doesn't support multiple subnets", u.Driver)
			}
			asked[six] = append(asked[six], c)
		}
	}
	for _, six := range families() {
		if !enabled[six] {
			continue
		}
		if six {
			if err := checkIPv6(); err != nil {
				return nil, err
			}
		}
		if len(asked[six]) == 0 {
			asked[six] = []network.IPAMConfig{{}}
		}
		for _, c := range asked[six] {
			if u.Driver == driverOverlay && !given(c.Subnet) {
				return nil, errdefs.Invalidf("an overlay network needs --subnet, the same on all its hosts (%s)", map[bool]string{false: "IPv4", true: "IPv6"}[six])
			}
			c, err := n.subnet(c, six, u.Pools)
			if err != nil {
				return nil, err
			}
			u.Pools = append(u.Pools, c)
		}
	}
	return u, nil
}

// families4and6 returns which families a network is to have, by whether it is
// IPv6.
func families4and6(q network.CreateRequest) (map[bool]bool, error) {
	enabled := map[bool]bool{false: true, true: false}
	for six, o := range map[bool]struct {
		field *bool
		name  string
	}{false: {q.EnableIPv4, optIPv4}, true: {q.EnableIPv6, optIPv6}} {
		if v, ok := q.Options[o.name]; ok {
			b, err := strconv.ParseBool(v)
			if err != nil {
				return nil, errdefs.Invalidf("invalid value for driver-opt %q: %q", o.name, v)
			}
			enabled[six] = b
		}
		if o.field != nil {
			enabled[six] = *o.field
		}
	}
	if !enabled[false] && !enabled[true] {
		return nil, errdefs.Invalidf("IPv4 or IPv6 must be enabled")
	}
	return enabled, nil
}

// given reports whether a subnet is one, and not only a length.
func given(s netip.Prefix) bool { return s.IsValid() && !s.Addr().IsUnspecified() }

// familyOf reports whether a configuration is of IPv6.
func familyOf(c network.IPAMConfig) bool {
	switch {
	case c.Subnet.IsValid():
		return c.Subnet.Addr().Is6()
	case c.IPRange.IsValid():
		return c.IPRange.Addr().Is6()
	}
	return c.Gateway.Is6()
}

// checkIPAM refuses addresses that do not belong together, in Docker's words.
func checkIPAM(all []network.IPAMConfig, enabled map[bool]bool) error {
	var bad []string
	say := func(format string, args ...any) { bad = append(bad, fmt.Sprintf(format, args...)) }
	for _, c := range all {
		s := c.Subnet
		if !enabled[familyOf(c)] {
			continue
		}
		if !s.IsValid() {
			if c.IPRange.IsValid() || c.Gateway.IsValid() || len(c.AuxAddress) > 0 {
				say("invalid subnet: a range, a gateway or an auxiliary address needs one")
			}
			continue
		}
		if s != s.Masked() {
			say("invalid subnet %s: it should be %s", s, s.Masked())
		}
		if r := c.IPRange; r.IsValid() {
			switch {
			case r.Addr().Is4() != s.Addr().Is4():
				say("invalid ip-range %s: parent subnet is an %s block", r, family(s.Addr()))
			case r.Bits() < s.Bits():
				say("invalid ip-range %s: CIDR block is bigger than its parent subnet %s", r, s)
			case r != r.Masked():
				say("invalid ip-range %s: it should be %s", r, r.Masked())
			case !s.Contains(r.Addr()):
				say("invalid ip-range %s: parent subnet %s doesn't contain ip-range", r, s)
			}
		}
		if g := c.Gateway; g.IsValid() && !s.Contains(g) {
			say("invalid gateway %s: parent subnet %s doesn't contain this address", g, s)
		}
		for _, a := range c.AuxAddress {
			if !s.Contains(a) {
				say("invalid auxiliary address %s: parent subnet %s doesn't contain this address", a, s)
			}
		}
	}
	if bad != nil {
		return errdefs.Invalidf("invalid network config:\n%s", strings.Join(bad, "\n"))
	}
	return nil
}

func family(a netip.Addr) string {
	if a.Is6() {
		return "IPv6"
	}
	return "IPv4"
}

// subnet completes what is asked for one subnet of a network, beside others that
// it has already. A subnet that has a length only is one of that length from our
// pools.
func (n *Networks) subnet(c network.IPAMConfig, six bool, beside []network.IPAMConfig) (network.IPAMConfig, error) {
	var taken []netip.Prefix
	for _, b := range n.allBridges() {
		taken = append(taken, b.side(six).subnets()...)
	}
	for _, o := range beside {
		taken = append(taken, o.Subnet)
	}
	if s := c.Subnet; given(s) {
		if slices.ContainsFunc(taken, s.Overlaps) {
			return c, errdefs.Forbiddenf("invalid pool request: Pool overlaps with other one on this address space")
		}
	} else {
		host, err := hostPrefixes(n.rt, 0)
		if err != nil {
			return c, err
		}
		pools := n.c.pools()
		if six {
			pools = n.pools6()
		}
		if s.IsValid() {
			for i := range pools {
				pools[i].Size = max(s.Bits(), pools[i].Base.Bits())
			}
		}
		if c.Subnet, err = ipam.Choose(pools, append(taken, host...)); err != nil {
			return c, err
		}
	}
	return c, nil
}

// pools6 returns the IPv6 pools: those of the configuration, else a prefix that
// is this engine's own (RFC 4193).
func (n *Networks) pools6() []ipam.Pool {
	own := slices.DeleteFunc(slices.Clone(n.c.Pools), func(p ipam.Pool) bool { return p.Base.Addr().Is4() })
	if len(own) > 0 {
		return own
	}
	n.mu.Lock()
	id := n.records[network.NetworkNone].ID // as old as the engine
	n.mu.Unlock()
	global := sha256.Sum256([]byte(id))
	var a [16]byte
	a[0] = 0xfd
	copy(a[1:6], global[:])
	return []ipam.Pool{{Base: netip.PrefixFrom(netip.AddrFrom16(a), 48), Size: 64}}
}

// newBridge returns the bridge of a network that was created, and completes the
// record with the gateways. Errors: Invalid.
func (n *Networks) newBridge(name string, r networkRecord) (*bridge, error) {
	u := r.User
	b := &bridge{network: name, id: r.ID, internal: u.Internal, plain: n.c.NoRules4}
	if u.Overlay != nil {
		b.across = &across{Config: *u.Overlay, device: overlay.DeviceName(r.ID)}
		o, err := overlay.Parse(name, u.Options)
		if err != nil {
			return nil, err
		}
		b.across.slices, b.across.given = o.Slices, o.Given
	}
	if foreignDriver(u.Driver) {
		b.foreign = &foreign{driver: u.Driver, cni: u.CNI}
	}
	read := b.options
	if u.Driver == driverMacvlan || u.Driver == driverIPVLAN {
		read = func(o map[string]string) error { return b.readChildren(u.Driver, o) }
	}
	if b.foreign != nil {
		read = func(map[string]string) error { return nil } // they are the driver's
	}
	if err := read(u.Options); err != nil {
		return nil, err
	}
	if b.across != nil {
		b.mtu = b.across.MTU
	}
	for i := range u.Pools {
		var pool string
		if u.Granted != nil {
			pool = u.Granted.Pools[i]
		}
		if err := b.addresses(&u.Pools[i], pool); err != nil {
			return nil, err
		}
	}
	b.granted = u.Granted
	if b.v6.subnet.IsValid() && b.mtu != 0 && b.mtu < leastIPv6MTU {
		return nil, errdefs.Invalidf("invalid MTU %d: IPv6 needs 1280 at least", b.mtu)
	}
	return b, nil
}

// addresses sets up a further subnet. A gateway that is left to us is the first
// address of it that nothing else has.
func (b *bridge) addresses(c *network.IPAMConfig, pool string) error {
	side := b.side(c.Subnet.Addr().Is6())
	s := &side.block
	if s.subnet.IsValid() {
		side.further = append(side.further, block{})
		s = &side.further[len(side.further)-1]
	}
	s.subnet, s.part, s.pool = c.Subnet.Masked(), c.IPRange, pool
	var aux []netip.Addr
	for _, a := range c.AuxAddress {
		aux = append(aux, a)
	}
	if b.children != nil {
		return b.addressesOfChildren(s, c.Gateway, c.IPRange, aux)
	}
	if side.mode == modeIsolated {
		return s.open(c.IPRange, append(aux, c.Gateway)...)
	}
	if !c.Gateway.IsValid() {
		if err := s.open(netip.Prefix{}, aux...); err != nil {
			return err
		}
		var err error
		if c.Gateway, err = s.addrs.Next(); err != nil {
			return err
		}
	}
	s.gateway = c.Gateway
	if side != &b.v4 || !b.bare4 {
		s.address = netip.PrefixFrom(c.Gateway, s.subnet.Bits())
	}
	if s.subnet.Addr().Is4() && s.subnet.Bits() < 31 && (c.Gateway == s.subnet.Addr() || c.Gateway == ipam.Last(s.subnet)) {
		return errdefs.Invalidf("invalid gateway %s: it is no address of a host in %s", c.Gateway, s.subnet)
	}
	return s.open(c.IPRange, append(aux, c.Gateway)...)
}

// options reads a network's options. Those that begin neither with Docker's
// prefix nor ours are somebody's notes.
func (b *bridge) options(o map[string]string) (err error) {
	b.link, b.icc, b.bind = "br-"+ids.Truncate(b.id), true, netip.IPv4Unspecified()
	masq := true
	b.v4.mode, b.v6.mode = modeNAT, modeNAT
	rates, err := netrate.FromAnnotations(o)
	if err != nil {
		return err
	}
	b.limits = rates.Limits(netrate.Limits{})
	for name, v := range o {
		err = nil
		if b.across != nil && !acrossOption(name) {
			return errdefs.Invalidf("invalid value for driver-opt %q: %q: there is no such option of an overlay network", name, v)
		}
		switch name {
		case optLink:
			b.link, err = v, checkBridge(v)
		case optICC:
			b.icc, err = strconv.ParseBool(v)
		case optMasq:
			masq, err = strconv.ParseBool(v)
		case optBind:
			if b.bind, err = netip.ParseAddr(v); err == nil && !b.bind.Is4() {
				err = errors.New("not an IPv4 address")
			}
		case optPolicy:
			b.policy, err = v, CheckPolicy(v)
		case optMode4:
			b.v4.mode, err = v, b.checkMode(v)
		case optMode6:
			b.v6.mode, err = v, b.checkMode(v)
		case optMTU:
			b.mtu, err = parseMTU(v)
		case optBare4:
			b.bare4, err = strconv.ParseBool(v)
		case optTrust:
			b.trusted, err = parseLinks(v)
		case optNames:
			b.prefix, err = v, checkBridge(v+"00")
		case optHost4:
			b.v4.source, err = parseSource(v, false)
		case optHost6:
			b.v6.source, err = parseSource(v, true)
		case optIPv4, optIPv6, netrate.InName, netrate.OutName, netrate.BurstName:
		default:
			if strings.HasPrefix(name, "com.docker.network.") || strings.HasPrefix(name, "lade.") {
				err = errors.New("there is no such option of a bridge network")
			}
		}
		if err != nil {
			return badOption(name, v, err)
		}
	}
	b.v4.masq, b.v6.masq = masq, masq
	if err := b.limits.Check(max(b.mtu, defaultMTU)); err != nil {
		return err
	}
	return nil
}

// badOption says what is wrong with an option of a network.
func badOption(name, value string, err error) error {
	return errdefs.Invalidf("invalid value for driver-opt %q: %q: %w", name, value, err)
}

// parseLinks reads names of links, "eth0:eth1".
func parseLinks(v string) ([]string, error) {
	names := strings.FieldsFunc(v, func(r rune) bool { return r == ':' })
	for _, name := range names {
		if err := checkBridge(name); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// parseSource reads an address that what leaves the host is to have.
func parseSource(v string, six bool) (netip.Addr, error) {
	ip, err := netip.ParseAddr(v)
	if err == nil && (ip.Is6() != six || ip.IsUnspecified() || ip.Zone() != "") {
		err = fmt.Errorf("not an address of %s", map[bool]string{false: "IPv4", true: "IPv6"}[six])
	}
	return ip, err
}

func parseMTU(v string) (int, error) {
	mtu, err := strconv.Atoi(v)
	if err == nil && (mtu < 68 || mtu > 65535) {
		err = errors.New("not between 68 and 65535")
	}
	return mtu, err
}

func (b *bridge) checkMode(mode string) error {
	switch mode {
	case modeNAT, modeUnprotected, modeRouted:
		return nil
	case modeIsolated:
		if b.internal {
			return nil
		}
		return errors.New("gateway mode 'isolated' can only be used for an internal network")
	}
	return fmt.Errorf("unknown gateway mode %s", mode)
}

// checkLink refuses a bridge that another network has, or that is none, and a
// parent that cannot be one. It reports whether the link is ours to make and to
// remove.
func (n *Networks) checkLink(b *bridge) (made bool, err error) {
	if b.children != nil {
		return n.checkParent(b)
	}
	if b.foreign != nil {
		return false, nil
	}
	for _, o := range n.allBridges() {
		if o.link == b.link {
			return false, errdefs.Forbiddenf("cannot create network %s (%s): conflicts with network %s (%s): networks have same bridge name", b.id, b.link, o.id, o.link)
		}
	}
	l, err := n.rt.LinkState(0, b.link)
	switch {
	case errors.Is(err, unix.ENODEV):
		return true, nil
	case err == nil && l.Kind != "bridge":
		return false, errdefs.Invalidf("existing interface %s is not a bridge", b.link)
	}
	return false, err
}

// Remove removes a network. Errors: NotFound, Forbidden for a predefined one and
// while a container is connected.
func (n *Networks) Remove(ctx context.Context, name string) error {
	n.changing.Lock()
	defer n.changing.Unlock()
	name, err := n.Resolve(name)
	if err != nil {
		return err
	}
	n.mu.Lock()
	r, b := n.records[name], n.bridges[name]
	n.mu.Unlock()
	if r.User == nil {
		return errdefs.Forbiddenf("%s is a pre-defined network and cannot be removed", name)
	}
	if r.User.Held != nil {
		return n.removeConfig(ctx, name)
	}
	return n.remove(ctx, name, b, r)
}

func (n *Networks) remove(ctx context.Context, name string, b *bridge, r networkRecord) error {
	if err := n.retire(name, b); err != nil {
		return err
	}
	back := func(err error) error {
		n.mu.Lock()
		n.records[name], n.bridges[name] = r, b
		n.mu.Unlock()
		n.follow(b)
		return err
	}
	if b.pool != nil {
		b.pool.close()
		b.pool = nil
	}
	if err := n.wall.govern(n.policies()); err != nil {
		return back(err)
	}
	if err := n.withdraw(b.across); err != nil {
		return back(err)
	}
	if err := n.unmake(b, r.Made); err != nil {
		return back(err)
	}
	failpoint.Hit("network.removed")
	var batch store.Batch
	batch.Delete(networkBucket, name)
	if err := n.c.Store.Commit(ctx, &batch); err != nil {
		return back(err)
	}
	if b.granted != nil {
		n.grants.returnOf(b.id, true)
	}
	if b.across != nil {
		n.tell(name)
	}
	return nil
}

// unmake removes what a network has in the host.
func (n *Networks) unmake(b *bridge, made bool) error {
	switch {
	case b.foreign != nil:
		return n.closeForeign(b)
	case !made && b.children == nil:
		return n.leave(b)
	case !made:
		return nil
	case b.children != nil:
		return n.forsake(b)
	}
	l, err := n.rt.LinkState(0, b.link)
	if err == nil {
		err = delLink(n.rt, l)
	}
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// leave takes our addresses from a bridge that is not ours.
func (n *Networks) leave(b *bridge) error {
	l, err := n.rt.LinkState(0, b.link)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, six := range families() {
		for _, p := range b.side(six).addresses() {
			var r netlink.Request
			r.DelAddr(l.Index, p)
			if err := n.rt.Do(&r); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return err
			}
		}
	}
	return nil
}

// retire takes a network out of the books, so that no endpoint is made in it any
// more. Errors: Forbidden while there is one.
func (n *Networks) retire(name string, b *bridge) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if b.users > 0 {
		var active []string
		for _, c := range n.containers {
			if e := c.in(name); e != nil {
				active = append(active, fmt.Sprintf("name:%q id:%q", c.Name, ids.Truncate(e.ID)))
			}
		}
		slices.Sort(active)
		return errdefs.Forbiddenf("error while removing network: network %s has active endpoints (%s)", name, strings.Join(active, ", "))
	}
	delete(n.records, name)
	delete(n.bridges, name)
	return nil
}
