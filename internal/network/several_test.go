package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/ids"
	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/linux/nft"
)

// create makes a network, and says so.
func (b *bench) create(q network.CreateRequest) string {
	b.t.Helper()
	id, err := b.n.Create(b.t.Context(), q)
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

// subnet is the configuration of addresses with one subnet.
func subnet(s ...string) *network.IPAM {
	out := &network.IPAM{}
	for _, s := range s {
		out.Config = append(out.Config, network.IPAMConfig{Subnet: netip.MustParsePrefix(s)})
	}
	return out
}

// attach connects a box to a further network.
func (x *box) attach(r Request) *Endpoint {
	x.b.t.Helper()
	r.ContainerID, r.NetNS = x.id, x.NetNS
	e, err := x.b.n.Attach(x.b.t.Context(), r)
	if err != nil {
		x.b.t.Fatal(err)
	}
	return e
}

// TestSeveral sends packets between networks, into them and out of them.
func TestSeveral(t *testing.T) {
	b := newBench(t, nil)
	const web, side, in, open, routed = "10.61.0.2", "10.62.0.2", "10.63.0.2", "10.64.0.2", "10.65.0.2"
	b.create(network.CreateRequest{Name: "web", IPAM: subnet("10.61.0.0/24")})
	b.create(network.CreateRequest{Name: "side", IPAM: subnet("10.62.0.0/24")})
	b.create(network.CreateRequest{Name: "in", IPAM: subnet("10.63.0.0/24"), Internal: true})
	b.create(network.CreateRequest{Name: "open", IPAM: subnet("10.64.0.0/24"), Options: map[string]string{optMode4: modeUnprotected}})
	b.create(network.CreateRequest{Name: "routed", IPAM: subnet("10.65.0.0/24"), Options: map[string]string{optMode4: modeRouted}})
	one := b.connect(Request{Name: "one", Network: "web", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8080}}})
	two := b.connect(Request{Name: "two", Network: "side"})
	three := b.connect(Request{Name: "three", Network: "in", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8083}}})
	four := b.connect(Request{Name: "four", Network: "in"})
	five := b.connect(Request{Name: "five", Network: "open"})
	six := b.connect(Request{Name: "six", Network: "routed", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8085}}})
	def := b.connect(Request{Name: "def"})
	for _, x := range []*box{one, two, three, five, six, def} {
		serve(t, x.NetNS, "tcp", ":80")
	}
	serve(t, six.NetNS, "tcp", ":81")
	serve(t, b.other, "tcp", ":80")
	host := machine.String()

	silent(t, "one network to another", two.NetNS, "tcp", web+":80")
	silent(t, "the default network to another", def.NetNS, "tcp", web+":80")
	silent(t, "a network to the default one", one.NetNS, "tcp", def.IPv4.Addr().String()+":80")
	silent(t, "outside to a container", b.other, "tcp", web+":80")
	answers(t, "a network to the outside", one.NetNS, "tcp", outside.String()+":80", host)
	answers(t, "outside to what is published", b.other, "tcp", host+":8080", outside.String())
	answers(t, "localhost to what is published", nil, "tcp", "127.0.0.1:8080", "10.61.0.1")
	answers(t, "another network to what is published", two.NetNS, "tcp", host+":8080", "")
	answers(t, "itself through the host", one.NetNS, "tcp", host+":8080", "")

	answers(t, "within an internal network", four.NetNS, "tcp", in+":80", "10.63.0.3")
	answers(t, "the host to an internal network", nil, "tcp", in+":80", "10.63.0.1")
	silent(t, "an internal network to the outside", three.NetNS, "tcp", outside.String()+":80")
	silent(t, "the outside to an internal network", b.other, "tcp", in+":80")
	silent(t, "a port of an internal network", b.other, "tcp", host+":8083")
	err := netns.Do(three.NetNS, func() error { // whoever is root there tries
		c := dial(t)
		defer c.Close()
		l, err := c.Link(0, "eth0")
		if err != nil {
			return err
		}
		var r netlink.Request
		r.AddDefaultRoute(l.Index, netip.MustParseAddr("10.63.0.1"))
		return c.Do(&r)
	})
	if err != nil {
		t.Fatal(err)
	}
	silent(t, "an internal network by a route of its own", three.NetNS, "tcp", outside.String()+":80")
	silent(t, "an internal network to a published port", three.NetNS, "tcp", host+":8080")
	silent(t, "an internal network to another", three.NetNS, "tcp", side+":80")

	answers(t, "outside to an unprotected network", b.other, "tcp", open+":80", outside.String())
	answers(t, "an unprotected network to the outside", five.NetNS, "tcp", outside.String()+":80", host)
	answers(t, "outside to a routed network's open port", b.other, "tcp", routed+":80", outside.String())
	silent(t, "outside to another port of it", b.other, "tcp", routed+":81")
	silent(t, "a routed network's port at the host", b.other, "tcp", host+":8085")
	answers(t, "a routed network to the outside", six.NetNS, "tcp", outside.String()+":80", routed)

	// A network that goes takes its rules along and leaves the others'.
	if err := b.n.Remove(t.Context(), "web"); !errors.Is(err, errdefs.Forbidden) || !strings.Contains(err.Error(), "has active endpoints (name:\"one\"") {
		t.Errorf("removal of a network in use: %v", err)
	}
	if err := b.n.Release(t.Context(), one.id); err != nil {
		t.Error(err)
	}
	if err := b.n.Remove(t.Context(), "web"); err != nil {
		t.Error(err)
	}
	answers(t, "after a removal", b.other, "tcp", routed+":80", outside.String())
	silent(t, "after a removal", two.NetNS, "tcp", def.IPv4.Addr().String()+":80")
}

// TestGateway moves a container's default route and published ports between its
// networks, as they come and go.
func TestGateway(t *testing.T) {
	b := newBench(t, nil)
	b.create(network.CreateRequest{Name: "a", IPAM: subnet("10.61.0.0/24")})
	b.create(network.CreateRequest{Name: "b", IPAM: subnet("10.62.0.0/24")})
	b.create(network.CreateRequest{Name: "in", IPAM: subnet("10.63.0.0/24"), Internal: true})
	serve(t, b.other, "tcp", ":80")
	x := b.connect(Request{Name: "x", Network: "in", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8080}}})
	serve(t, x.NetNS, "tcp", ":80")
	published := func(what, gateway string) {
		t.Helper()
		if gateway == "" {
			silent(t, what, b.other, "tcp", machine.String()+":8080")
			return
		}
		answers(t, what, b.other, "tcp", machine.String()+":8080", outside.String())
		answers(t, what+": localhost", nil, "tcp", "127.0.0.1:8080", gateway)
		answers(t, what+": way out", x.NetNS, "tcp", outside.String()+":80", machine.String())
	}
	published("internal only", "")
	if e := x.attach(Request{Name: "x", Network: "b"}); e.Interface != "eth1" || e.IPv4.String() != "10.62.0.2/24" {
		t.Errorf("%+v", e)
	}
	published("b", "10.62.0.1")
	x.attach(Request{Name: "x", Network: "a"})
	published("a before b", "10.61.0.1")
	x.attach(Request{Name: "x", Network: "bridge", Priority: 1})
	published("the highest priority", b.gateway().String())
	for _, step := range []struct{ leave, gateway string }{{"bridge", "10.61.0.1"}, {"in", "10.61.0.1"}, {"a", "10.62.0.1"}, {"b", ""}} {
		if err := b.n.Detach(t.Context(), x.id, step.leave, x.NetNS); err != nil {
			t.Fatal(err)
		}
		published("without "+step.leave, step.gateway)
	}
	if _, held := b.n.ports.held[claim{"tcp", 8080}]; held {
		t.Error("a port is held for a container without a way out")
	}
	if err := b.n.Detach(t.Context(), x.id, "a", x.NetNS); err == nil || !strings.Contains(err.Error(), "is not connected to network a") {
		t.Error(err)
	}
	// The first free name is taken again.
	if e := x.attach(Request{Name: "x", Network: "b"}); e.Interface != "eth0" {
		t.Errorf("interface %s", e.Interface)
	}
	published("b again", "10.62.0.1")
}

// TestAttachFails checks that nothing remains of an attempt.
func TestAttachFails(t *testing.T) {
	b := newBench(t, nil)
	b.create(network.CreateRequest{Name: "a", IPAM: subnet("10.61.0.0/30")})
	b.create(network.CreateRequest{Name: "in", IPAM: subnet("10.63.0.0/24"), Internal: true})
	b.connect(Request{Name: "holder", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8080}}})
	x := b.connect(Request{Name: "x", Network: "in", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8080}}})
	before, _ := b.n.record(x.id)
	for _, tc := range []struct {
		r    Request
		want string
	}{
		{Request{Network: "a", Name: "x"}, "Bind for 0.0.0.0:8080 failed: port is already allocated"},
		{Request{Network: "a", IPv4: netip.MustParseAddr("10.61.0.1")}, "Address already in use"},
		{Request{Network: "a", IPv4: netip.MustParseAddr("10.99.0.1")}, "no configured subnet contains IP address 10.99.0.1"},
		{Request{Network: "in", Name: "x"}, "endpoint with name x already exists in network in"},
		{Request{Network: "host"}, "connected to host network"},
		{Request{Network: "nope"}, "network nope not found"},
		{Request{Network: "bridge", Interface: "eth0"}, "has the name eth0 already"},
	} {
		tc.r.ContainerID, tc.r.NetNS = x.id, x.NetNS
		if _, err := b.n.Attach(t.Context(), tc.r); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v, want %s", err, tc.want)
		}
	}
	if now, _ := b.n.record(x.id); now != before {
		t.Errorf("the record is %+v", now)
	}
	if err := netns.Do(x.NetNS, func() error {
		c := dial(t)
		defer c.Close()
		links, err := c.Links()
		if n := len(slices.DeleteFunc(links, func(l netlink.Link) bool { return !strings.HasPrefix(l.Name, "eth") })); n != 1 {
			t.Errorf("%d interfaces", n)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	y := b.connect(Request{Name: "y", Network: "a"}) // the only address is free
	if _, err := b.n.Connect(t.Context(), Request{ContainerID: ids.New(), Network: "a"}); !errors.Is(err, errdefs.Exhausted) {
		t.Errorf("Connect to a full network = %v", err)
	}
	_ = y
}

// TestCreateRefused checks the words of refusals, and that nothing remains.
func TestCreateRefused(t *testing.T) {
	b := newBench(t, nil)
	b.create(network.CreateRequest{Name: "there", IPAM: subnet("10.61.0.0/24"), Options: map[string]string{optLink: "ltthere"}})
	before := b.inventory()
	off := false
	for _, tc := range []struct {
		q    network.CreateRequest
		kind errdefs.Kind
		want string
	}{
		{network.CreateRequest{Name: "there"}, errdefs.Conflict, "network with name there already exists"},
		{network.CreateRequest{Name: " "}, errdefs.Invalid, "invalid name: name is empty"},
		{network.CreateRequest{Name: "bridge"}, errdefs.Forbidden, "operation is not permitted on predefined bridge network"},
		{network.CreateRequest{Name: "n", Driver: "nope"}, errdefs.NotFound, `plugin "nope" not found`},
		{network.CreateRequest{Name: "n", Driver: "host"}, errdefs.Forbidden, `only one instance of "host" network is allowed`},
		{network.CreateRequest{Name: "n", Driver: "overlay"}, errdefs.Invalid, "an overlay network needs its hosts"},
		{network.CreateRequest{Name: "n", IPAM: subnet("10.61.0.128/25")}, errdefs.Forbidden, "Pool overlaps with other one on this address space"},
		{network.CreateRequest{Name: "n", IPAM: subnet(b.n.def.v4.subnet.String())}, errdefs.Forbidden, "Pool overlaps"},
		{network.CreateRequest{Name: "n", IPAM: subnet("10.70.0.0/24", "10.71.0.0/24")}, errdefs.Forbidden, "multiple subnets"},
		{network.CreateRequest{Name: "n", EnableIPv4: &off}, errdefs.Invalid, "IPv4 or IPv6 must be enabled"},
		{network.CreateRequest{Name: "n", Options: map[string]string{optLink: "ltthere"}}, errdefs.Forbidden, "networks have same bridge name"},
		{network.CreateRequest{Name: "n", Options: map[string]string{optLink: "uplink"}}, errdefs.Invalid, "existing interface uplink is not a bridge"},
		{network.CreateRequest{Name: "n", Options: map[string]string{optLink: "much-too-long-a-name"}}, errdefs.Invalid, "invalid bridge name"},
		{network.CreateRequest{Name: "n", Options: map[string]string{optICC: "perhaps"}}, errdefs.Invalid, optICC},
		{network.CreateRequest{Name: "n", Options: map[string]string{optMTU: "1"}}, errdefs.Invalid, optMTU},
		{network.CreateRequest{Name: "n", Options: map[string]string{optMode4: modeIsolated}}, errdefs.Invalid, "can only be used for an internal network"},
		{network.CreateRequest{Name: "n", Options: map[string]string{"com.docker.network.nope": "1"}}, errdefs.Invalid, "no such option"},
		{network.CreateRequest{Name: "n", Options: map[string]string{"lade.net-rate-in": "fast"}}, errdefs.Invalid, "lade.net-rate-in"},
		{network.CreateRequest{Name: "n", IPAM: &network.IPAM{Driver: "nope"}}, errdefs.NotFound, `plugin "nope" not found`},
		{network.CreateRequest{Name: "n", IPAM: &network.IPAM{Config: []network.IPAMConfig{{
			Subnet: netip.MustParsePrefix("10.70.0.0/24"), Gateway: netip.MustParseAddr("10.71.0.1"), IPRange: netip.MustParsePrefix("10.0.0.0/8"),
		}}}}, errdefs.Invalid, "CIDR block is bigger than its parent subnet 10.70.0.0/24\ninvalid gateway 10.71.0.1"},
	} {
		_, err := b.n.Create(t.Context(), tc.q)
		if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %s", tc.q, err, tc.want)
		}
	}
	if now := b.inventory(); !slices.Equal(slices.DeleteFunc(now, isVeth), slices.DeleteFunc(before, isVeth)) {
		t.Errorf("before %v, now %v", before, now)
	}
	if n := len(b.n.List()); n != 4 {
		t.Errorf("%d networks", n)
	}
	// Only those that were created can be removed.
	for name, kind := range map[string]errdefs.Kind{"bridge": errdefs.Forbidden, "host": errdefs.Forbidden, "nope": errdefs.NotFound} {
		if err := b.n.Remove(t.Context(), name); !errors.Is(err, kind) {
			t.Errorf("Remove(%s) = %v", name, err)
		}
	}
}

func isVeth(name string) bool { return strings.HasPrefix(name, linkKind) }

// TestMend removes what a network has in the kernel, as an administrator might.
func TestMend(t *testing.T) {
	b := newBench(t, nil)
	id := b.create(network.CreateRequest{Name: "a", IPAM: subnet("10.61.0.0/24")})
	one := b.connect(Request{Name: "one", Network: "a", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8080}}})
	serve(t, one.NetNS, "tcp", ":80")
	br := "br-" + ids.Truncate(id)
	if err := delLink(b.n.rt, b.link(br)); err != nil {
		t.Fatal(err)
	}
	two := b.connect(Request{Name: "two", Network: "a"})
	eventually(t, "the bridge is made anew", func() error {
		_, err1 := ask(b.other, "tcp", machine.String()+":8080", patience)
		_, err2 := ask(two.NetNS, "tcp", one.IPv4.Addr().String()+":80", patience)
		_, err3 := ask(nil, "tcp", "127.0.0.1:8080", patience)
		return errors.Join(err1, err2, err3)
	})

	// The container's interface is gone: a new connection brings it back.
	c, _ := b.n.record(one.id)
	if err := delLink(b.n.rt, b.link(c.Endpoints[0].Link)); err != nil {
		t.Fatal(err)
	}
	if err := b.n.Detach(t.Context(), one.id, "a", one.NetNS); err != nil {
		t.Fatal(err)
	}
	one.attach(Request{Name: "one", Network: "a"})
	answers(t, "after the interface was removed", b.other, "tcp", machine.String()+":8080", outside.String())

	// All of it, and the engine, too.
	b.crash()
	rt := dial(t)
	defer rt.Close()
	var r netlink.Request
	l, err := rt.Link(0, br)
	if err != nil {
		t.Fatal(err)
	}
	r.DelLink(l.Index)
	if err := rt.Do(&r); err != nil {
		t.Fatal(err)
	}
	conn, err := nft.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	batch := nft.NewBatch(tablePrefix + b.c.Bridge)
	batch.AddTable()
	batch.DelTable()
	if err := conn.Commit(batch); err != nil {
		t.Fatal(err)
	}
	b.start()
	if err := b.n.Restore(t.Context(), map[string]bool{one.id: true, two.id: true}); err != nil {
		t.Error(err)
	}
	answers(t, "after a crash without bridge and table", b.other, "tcp", machine.String()+":8080", outside.String())
	if got := b.n.ID("a"); got != id {
		t.Errorf("the network has the id %s, not %s", got, id)
	}
}

// link finds a link of the machine.
func (b *bench) link(name string) netlink.Link {
	b.t.Helper()
	l, err := b.n.rt.Link(0, name)
	if err != nil {
		b.t.Fatal(err)
	}
	return l
}

// TestPools checks that subnets of new networks avoid what the host has by now.
func TestPools(t *testing.T) {
	b := newBench(t, func(c *Config) {
		c.Pools = nil
	})
	first := b.n.def.v4.subnet
	for i := range 2 {
		name := fmt.Sprint("n", i)
		b.create(network.CreateRequest{Name: name})
		s := b.n.bridge(name).v4.subnet
		if s.Overlaps(first) || s.Overlaps(netip.PrefixFrom(machine, 24)) {
			t.Errorf("%s is not free", s)
		}
		if i > 0 {
			break
		}
		var r netlink.Request // a route that appears takes the next subnet
		next := netip.PrefixFrom(netip.MustParseAddr("172.19.0.1"), 16)
		r.AddAddr(b.link("uplink").Index, next)
		if err := b.n.rt.Do(&r); err != nil {
			t.Fatal(err)
		}
	}
	if s := b.n.bridge("n1").v4.subnet; s.String() != "172.20.0.0/16" {
		t.Errorf("subnet %s", s)
	}
	b.create(network.CreateRequest{Name: "small", IPAM: subnet("0.0.0.0/27")})
	if s := b.n.bridge("small").v4.subnet; s.String() != "172.21.0.0/27" {
		t.Errorf("subnet %s", s)
	}
}

// TestIPv6 sends packets in networks with both families, and with one.
func TestIPv6(t *testing.T) {
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		t.Skip("the kernel has no IPv6")
	}
	b := newBench(t, nil)
	yes, no := true, false
	machine6, outside6 := netip.MustParseAddr("fd99::1"), netip.MustParseAddr("fd99::2")
	b.address6("uplink", nil, machine6)
	b.address6("eth0", b.other, outside6)
	b.create(network.CreateRequest{Name: "dual", EnableIPv6: &yes, IPAM: subnet("10.61.0.0/24", "fd61::/64")})
	b.create(network.CreateRequest{Name: "six", EnableIPv4: &no, EnableIPv6: &yes, IPAM: subnet("fd62::/64")})
	b.create(network.CreateRequest{Name: "auto", EnableIPv6: &yes})
	if s := b.n.bridge("auto").v6.subnet; !netip.MustParsePrefix("fd00::/8").Contains(s.Addr()) || s.Bits() != 64 {
		t.Errorf("subnet %s", s)
	}
	one := b.connect(Request{Name: "one", Network: "dual", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8080}, {Proto: "tcp", Port: 80}, {Proto: "tcp", Port: 80, HostPort: 8081, HostIP: machine6}}})
	two := b.connect(Request{Name: "two", Network: "six", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8082}}})
	three := b.connect(Request{Name: "three", Network: "six"})
	for _, x := range []*box{one, two} {
		serve(t, x.NetNS, "tcp6", "[::]:80")
	}
	serve(t, one.NetNS, "tcp", "0.0.0.0:80")
	serve(t, b.other, "tcp6", "[::]:80")
	if one.IPv6.String() != "fd61::2/64" || two.IPv6.String() != "fd62::2/64" || two.IPv4.IsValid() {
		t.Errorf("addresses %s, %s, %s", one.IPv6, two.IPv6, two.IPv4)
	}
	host := "[" + machine6.String() + "]"
	answers(t, "IPv4 in a network with both", b.other, "tcp", machine.String()+":8080", outside.String())
	answers(t, "outside to published", b.other, "tcp6", host+":8080", outside6.String())
	answers(t, "outside to one address", b.other, "tcp6", host+":8081", outside6.String())
	answers(t, "outside to a network of IPv6 only", b.other, "tcp6", host+":8082", outside6.String())
	answers(t, "the host by its own address", nil, "tcp6", host+":8080", "")
	answers(t, "within a network", three.NetNS, "tcp6", "[fd62::2]:80", "fd62::3")
	answers(t, "itself through the host", two.NetNS, "tcp6", host+":8082", "")
	answers(t, "a network to the outside", three.NetNS, "tcp6", "["+outside6.String()+"]:80", machine6.String())
	silent(t, "one network to another", three.NetNS, "tcp6", "[fd61::2]:80")
	silent(t, "outside to a container", b.other, "tcp6", "[fd61::2]:80")
	for p, bound := range one.Ports {
		if len(bound) != 5 || bound[2].HostPort != bound[3].HostPort {
			t.Errorf("%v is bound to %v", p, bound)
		}
	}
	answers(t, "IPv6 localhost", nil, "tcp6", "[::1]:8080", "fd61::1")
	answers(t, "IPv6 localhost to a network of IPv6 only", nil, "tcp6", "[::1]:8082", "fd62::1")
	silent(t, "IPv6 localhost to one address", nil, "tcp6", "[::1]:8081")
	loop := b.connect(Request{Name: "loop", Network: "dual", Ports: []Publish{
		{Proto: "tcp", Port: 80, HostPort: 8090, HostIP: netip.IPv6Loopback()}, {Proto: "udp", Port: 53, HostPort: 8091, HostIP: netip.IPv6Loopback()},
		{Proto: "tcp", Port: 80, HostPort: 8092, Policy: PolicyGate},
	}})
	serve(t, loop.NetNS, "tcp6", "[::]:80")
	answers(t, "published on ::1", nil, "tcp6", "[::1]:8090", "fd61::1")
	answers(t, "published on ::1, of the container", nil, "tcp6", "["+loop.IPv6.Addr().String()+"]:80", "fd61::1")
	answers(t, "gated", b.other, "tcp6", host+":8092", outside6.String())
	silent(t, "published on ::1, from outside", b.other, "tcp6", host+":8090")
	// The tables of both families come back.
	c, err := nft.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	batch := nft.NewBatch(b.n.wall.table)
	batch.In(nft.IPv6)
	batch.DelTable()
	if err := c.Commit(batch); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the table is made anew", func() error {
		_, err := ask(b.other, "tcp6", host+":8080", patience)
		return err
	})
	// A host on which it is turned off.
	if err := netns.Sysctl("net/ipv6/conf/all/disable_ipv6", "1"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := netns.Sysctl("net/ipv6/conf/all/disable_ipv6", "0"); err != nil {
			t.Error(err)
		}
	}()
	if _, err := b.n.Create(t.Context(), network.CreateRequest{Name: "off", EnableIPv6: &yes}); !errors.Is(err, errdefs.Invalid) || !strings.Contains(err.Error(), "IPv6 is disabled on this host") {
		t.Error(err)
	}
}

// address6 gives an interface an IPv6 address.
func (b *bench) address6(link string, ns *os.File, ip netip.Addr) {
	b.t.Helper()
	err := in(ns, func() error {
		c := dial(b.t)
		defer c.Close()
		l, err := c.Link(0, link)
		if err != nil {
			return err
		}
		var r netlink.Request
		r.AddAddr(l.Index, netip.PrefixFrom(ip, 64))
		if ns != nil {
			r.AddDefaultRoute(l.Index, netip.MustParseAddr("fd99::1"))
		}
		return c.Do(&r)
	})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		b.t.Fatal(err)
	}
}
