package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/linux/nft"
	"lade/internal/need"
	"lade/internal/network/cni"
	"lade/internal/plugin"
)

// debianCNI is where Debian has CNI's plugins.
const debianCNI = "/usr/lib/cni"

// cniBench is a bench with configurations of CNI, by their names.
func cniBench(t *testing.T, confs map[string]string) (b *bench, leases string) {
	t.Helper()
	need.Root(t)
	need.File(t, debianCNI+"/bridge", "Debian's containernetworking-plugins")
	dir, leases := t.TempDir(), t.TempDir()
	for name, conf := range confs {
		if err := os.WriteFile(filepath.Join(dir, name+".conflist"), []byte(strings.ReplaceAll(conf, "LEASES", leases)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return newBench(t, func(c *Config) {
		c.CNI = cni.Dirs{Conf: []string{dir}, Bin: []string{filepath.Join(dir, "bin"), debianCNI}}
	}), leases
}

// leased returns the addresses that host-local has given out on a network.
func leased(t *testing.T, leases, name string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(leases, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, err := netip.ParseAddr(e.Name()); err == nil {
			out = append(out, e.Name())
		}
	}
	return out
}

// remove removes a link of the machine that a plugin leaves there, as they do.
func (b *bench) remove(name string) {
	b.t.Helper()
	l, err := b.n.rt.Link(0, name)
	if err == nil {
		err = delLink(b.n.rt, l)
	}
	if err != nil {
		b.t.Errorf("%s: %v", name, err)
	}
}

func ipamOf(subnet string) string {
	return `"ipam": {"type": "host-local", "dataDir": "LEASES", "subnet": "` + subnet + `", "routes": [{"dst": "0.0.0.0/0"}]}`
}

// TestCNI connects containers by Debian's plugins bridge, ptp and macvlan, and
// takes all of it back: in order, live, and after a crash.
func TestCNI(t *testing.T) {
	b, leases := cniBench(t, map[string]string{
		"bridged": `{"cniVersion": "1.0.0", "name": "bridged", "plugins": [{"type": "bridge", "bridge": "cnit0", "isGateway": true, ` + ipamOf("10.81.0.0/24") + `}]}`,
		"ptp":     `{"cniVersion": "0.4.0", "name": "ptp", "plugins": [{"type": "ptp", ` + ipamOf("10.82.0.0/24") + `}, {"type": "tuning", "capabilities": {"mac": true}}]}`,
		"macvlan": `{"cniVersion": "1.0.0", "name": "macvlan", "plugins": [{"type": "macvlan", "master": "uplink", ` + ipamOf("10.99.0.0/24") + `}]}`,
	})
	for _, name := range []string{"bridged", "ptp", "macvlan"} {
		b.create(network.CreateRequest{Name: name, Driver: "cni", Options: map[string]string{"conf": name}})
	}
	one := b.connect(Request{Name: "one", Network: "bridged"})
	if got := one.IPv4.String() + " " + one.Gateway.String() + " " + one.Driver; got != "10.81.0.2/24 10.81.0.1 cni" {
		t.Errorf("endpoint: %s", got)
	}
	serve(t, one.NetNS, "tcp", ":80")
	reaches(t, "host to a container of CNI's bridge", nil, "tcp", "10.81.0.2:80", "10.81.0.1")
	two := b.connect(Request{Name: "two", Network: "ptp", MAC: net.HardwareAddr{2, 1, 1, 1, 1, 1}})
	serve(t, two.NetNS, "tcp", ":80")
	reaches(t, "host to a container of ptp", nil, "tcp", two.IPv4.Addr().String()+":80", "10.82.0.1")
	reaches(t, "ptp to the bridge, by the host", two.NetNS, "tcp", "10.81.0.2:80", two.IPv4.Addr().String())
	if got := b.macInside(two); got != "02:01:01:01:01:01" || two.MAC.String() != got {
		t.Errorf("MAC %s, %s", got, two.MAC)
	}
	three := b.connect(Request{Name: "three", Network: "macvlan"})
	serve(t, b.other, "tcp", ":80")
	_, err := b.n.rt.Link(0, "uplink")
	if err != nil {
		t.Fatal(err)
	}
	if got := three.IPv4.Addr().String(); !slices.Equal(leased(t, leases, "macvlan"), []string{got}) {
		t.Errorf("address %s, leased %v", got, leased(t, leases, "macvlan"))
	}

	// Live: a further network of CNI, and away again.
	two.attach(Request{Name: "two", Network: "bridged"})
	reaches(t, "over the further network", two.NetNS, "tcp", "10.81.0.2:80", "10.81.0.3")
	if err := b.n.Detach(t.Context(), two.id, "bridged", two.NetNS); err != nil {
		t.Fatal(err)
	}
	if got := leased(t, leases, "bridged"); !slices.Equal(got, []string{"10.81.0.2"}) {
		t.Errorf("leased after disconnect: %v", got)
	}
	reaches(t, "after it", two.NetNS, "tcp", "10.81.0.2:80", two.IPv4.Addr().String())

	// In order.
	if err := b.n.Release(t.Context(), two.id); err != nil {
		t.Error(err)
	}
	if got := leased(t, leases, "ptp"); len(got) > 0 {
		t.Errorf("leased after the end: %v", got)
	}
	// After a crash: one runs on, three has ended meanwhile, and of a fourth the
	// plugins were asked, but no more is known.
	lost := &hold{Endpoint: strings.Repeat("f", 64), NetworkID: b.n.ID("bridged"), Driver: "cni", CNI: b.n.bridge("bridged").foreign.cni, Inside: "eth0"}
	ns, err := netns.New(func(ns *os.File) error {
		if err := b.n.holds.note(lost); err != nil {
			return err
		}
		_, err := lost.CNI.Add(t.Context(), b.n.holds.call(lost, ns))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := leased(t, leases, "bridged"); len(got) != 2 {
		t.Errorf("leased: %v", got)
	}
	b.crash()
	ns.Close()
	three.NetNS.Close()
	b.start()
	if err := b.n.Restore(t.Context(), map[string]bool{one.id: true}); err != nil {
		t.Fatal(err)
	}
	if got := append(leased(t, leases, "bridged"), leased(t, leases, "macvlan")...); !slices.Equal(got, []string{"10.81.0.2"}) {
		t.Errorf("leased after the crash: %v", got)
	}
	reaches(t, "a container that ran on", nil, "tcp", "10.81.0.2:80", "10.81.0.1")
	if err := b.n.Release(t.Context(), one.id); err != nil {
		t.Error(err)
	}
	if got := leased(t, leases, "bridged"); len(got) > 0 || len(b.n.holds.all()) > 0 {
		t.Errorf("at the end: %v, %v", got, b.n.holds.all())
	}
	one.NetNS.Close()
	for _, name := range []string{"bridged", "ptp", "macvlan"} {
		if err := b.n.Remove(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	b.remove("cnit0")
}

// macInside returns the hardware address of a box's interface.
func (b *bench) macInside(x *box) (mac string) {
	b.t.Helper()
	err := netns.Do(x.NetNS, func() error {
		c := dial(b.t)
		defer c.Close()
		l, err := c.Link(0, x.Interface)
		mac = macOf(l)
		return err
	})
	if err != nil {
		b.t.Error(err)
	}
	return mac
}

// TestCNIRefused checks configurations that cannot be, and plugins that fail.
func TestCNIRefused(t *testing.T) {
	b, leases := cniBench(t, map[string]string{
		"empty":   `{"cniVersion": "1.0.0", "name": "empty", "plugins": []}`,
		"future":  `{"cniVersion": "2.0.0", "name": "future", "plugins": [{"type": "bridge"}]}`,
		"missing": `{"cniVersion": "1.0.0", "name": "missing", "plugins": [{"type": "nobody"}]}`,
		"outside": `{"cniVersion": "1.0.0", "name": "outside", "plugins": [{"type": "../../../bin/true"}]}`,
		"broken":  `{"cniVersion": "1.0.0", "name": "broken", "plugins": [`,
		"fails":   `{"cniVersion": "1.0.0", "name": "fails", "plugins": [{"type": "macvlan", "master": "nosuchlink", ` + ipamOf("10.83.0.0/24") + `}]}`,
		"half":    `{"cniVersion": "1.0.0", "name": "half", "plugins": [{"type": "ptp", ` + ipamOf("10.84.0.0/24") + `}, {"type": "tuning", "sysctl": {"net.nosuch.thing": "1"}}]}`,
	})
	for conf, want := range map[string]string{
		"empty": "names no plugin", "future": `version "2.0.0" is none of 0.3.0`, "missing": `plugin "nobody" not found in`,
		"outside": `invalid name "../../../bin/true" of a plugin`, "broken": "unexpected end of JSON input", "nowhere": `CNI configuration "nowhere" not found`,
		"../x": "invalid name", "": "needs the name of its configuration",
	} {
		_, err := b.n.Create(t.Context(), network.CreateRequest{Name: "n", Driver: "cni", Options: map[string]string{"conf": conf}})
		if k := errdefs.KindOf(err); k != errdefs.Invalid && k != errdefs.NotFound || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", conf, err)
		}
	}
	q := network.CreateRequest{Name: "n", Driver: "cni", Options: map[string]string{"conf": "fails"}, IPAM: subnet("10.1.0.0/24")}
	if _, err := b.n.Create(t.Context(), q); !errors.Is(err, errdefs.Invalid) || !strings.Contains(err.Error(), "no --subnet") {
		t.Errorf("a subnet: %v", err)
	}
	for conf, want := range map[string]string{"fails": "CNI plugin macvlan, ADD: ", "half": "CNI plugin tuning, ADD: "} {
		b.create(network.CreateRequest{Name: conf, Driver: "cni", Options: map[string]string{"conf": conf}})
		if _, err := b.n.Connect(t.Context(), Request{ContainerID: "c", Network: conf}); !errors.Is(err, errdefs.Internal) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", conf, err)
		}
		if err := b.n.Remove(t.Context(), conf); err != nil {
			t.Error(err)
		}
		if got := leased(t, leases, conf); len(got) > 0 || len(b.n.holds.all()) > 0 {
			t.Errorf("%s leaves %v, %v", conf, got, b.n.holds.all())
		}
	}
}

// driver is a network driver as a program of its own: its networks are pairs of
// links, whose other end stays on the machine.
type driver struct {
	t    *testing.T
	rt   *netlink.Conn
	fail string // a method that fails

	mu    sync.Mutex
	calls []string
}

// serveDriver serves it under a name.
func serveDriver(t *testing.T, dir, name string) *driver {
	t.Helper()
	d := &driver{t: t, rt: dial(t)}
	t.Cleanup(func() { d.rt.Close() })
	need.ServeHTTP(t, filepath.Join(dir, name+".sock"), d)
	return d
}

func (d *driver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	method := strings.TrimPrefix(r.URL.Path, "/NetworkDriver.")
	var q struct {
		NetworkID, EndpointID string
		Interface             struct{ Address, MacAddress string }
		Options               map[string]any
		IPv4Data              []struct{ Pool, Gateway string }
	}
	json.NewDecoder(r.Body).Decode(&q)
	answer := any(map[string]any{})
	switch method {
	case "/Plugin.Activate":
		answer = map[string]any{"Implements": []string{"NetworkDriver"}}
	case "CreateNetwork":
		generic, _ := q.Options["com.docker.network.generic"].(map[string]any)
		d.calls = append(d.calls, fmt.Sprint(method, " ", q.IPv4Data, " ", generic["speed"]))
	case "CreateEndpoint":
		d.calls = append(d.calls, method+" "+q.Interface.Address)
		answer = map[string]any{"Interface": map[string]string{"MacAddress": "02:99:99:99:99:01"}}
	case "Join":
		d.calls = append(d.calls, method)
		var req netlink.Request
		end := "rh-" + q.EndpointID[:5]
		req.AddVeth(netlink.Veth{Name: end, MTU: 1500, Peer: "rd-" + q.EndpointID[:5]})
		req.SetUp(0, end)
		if err := d.rt.Do(&req); err != nil {
			d.t.Error(err)
		}
		l, err := d.rt.Link(0, end)
		if err == nil {
			req.Reset()
			req.AddAddr(l.Index, netip.MustParsePrefix("10.85.0.1/24"))
			err = d.rt.Do(&req)
		}
		if err != nil {
			d.t.Error(err)
		}
		answer = map[string]any{
			"InterfaceName": map[string]string{"SrcName": "rd-" + q.EndpointID[:5], "DstPrefix": "eth"}, "Gateway": "10.85.0.1",
			"StaticRoutes": []map[string]any{{"Destination": "10.86.0.0/16", "RouteType": 0, "NextHop": "10.85.0.1"}},
		}
	case "DeleteEndpoint":
		d.calls = append(d.calls, method)
		if l, err := d.rt.Link(0, "rd-"+q.EndpointID[:5]); err == nil {
			d.calls = append(d.calls, "its interface is back")
			var req netlink.Request
			req.DelLink(l.Index)
			if err := d.rt.Do(&req); err != nil {
				d.t.Error(err)
			}
		} else if !errors.Is(err, unix.ENODEV) {
			d.t.Error(err)
		}
	default:
		d.calls = append(d.calls, method)
	}
	if method == d.fail {
		answer = map[string]string{"Err": "no such luck"}
	}
	json.NewEncoder(w).Encode(answer)
}

func (d *driver) told() (calls []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	calls, d.calls = d.calls, nil
	return calls
}

// TestRemoteDriver connects containers by a driver that is a program of its own.
func TestRemoteDriver(t *testing.T) {
	dir := t.TempDir()
	b := newBench(t, func(c *Config) { c.Plugins = plugin.Dirs{Sockets: []string{dir}, Specs: []string{dir}} })
	q := network.CreateRequest{Name: "far", Driver: "own", IPAM: subnet("10.85.0.0/24"), Options: map[string]string{"speed": "high"}}
	if _, err := b.n.Create(t.Context(), q); !errors.Is(err, errdefs.NotFound) || err.Error() != `plugin "own" not found` {
		t.Errorf("without the plugin: %v", err)
	}
	d := serveDriver(t, dir, "own")
	expect := func(what string, want ...string) {
		t.Helper()
		if got := d.told(); !slices.Equal(got, want) {
			t.Errorf("%s: the driver was told %q, want %q", what, got, want)
		}
	}
	d.fail = "CreateNetwork"
	if _, err := b.n.Create(t.Context(), q); err == nil || !strings.HasSuffix(err.Error(), "remote: no such luck") || b.n.ID("far") != "" {
		t.Errorf("a driver that refuses: %v, network %q", err, b.n.ID("far"))
	}
	d.fail = ""
	d.told()
	b.create(q)
	expect("create", "CreateNetwork [{10.85.0.0/24 10.85.0.1/24}] high")
	one := b.connect(Request{Name: "one", Network: "far", IPv4: netip.MustParseAddr("10.85.0.9")})
	expect("connect", "CreateEndpoint 10.85.0.9/24", "Join")
	if got := fmt.Sprint(one.IPv4, " ", one.Gateway, " ", one.Driver, " ", one.MAC, " ", b.macInside(one)); got != "10.85.0.9/24 10.85.0.1 own 02:99:99:99:99:01 02:99:99:99:99:01" {
		t.Errorf("endpoint: %s", got)
	}
	serve(t, one.NetNS, "tcp", ":80")
	reaches(t, "host to container", nil, "tcp", "10.85.0.9:80", "10.85.0.1")
	serve(t, b.other, "tcp", ":80")
	b.crash()
	b.start()
	if err := b.n.Restore(t.Context(), map[string]bool{one.id: true}); err != nil {
		t.Fatal(err)
	}
	expect("a start")
	if err := b.n.Release(t.Context(), one.id); err != nil {
		t.Error(err)
	}
	expect("release after a start", "Leave", "DeleteEndpoint")
	one.NetNS.Close()

	// A further network of a container that runs.
	two := b.connect(Request{Name: "two"})
	two.attach(Request{Name: "two", Network: "far"})
	expect("attach", "CreateEndpoint 10.85.0.2/24", "Join")
	if err := b.n.Detach(t.Context(), two.id, "far", two.NetNS); err != nil {
		t.Error(err)
	}
	expect("detach", "Leave", "DeleteEndpoint", "its interface is back")
	d.fail = "Join"
	if _, err := b.n.Attach(t.Context(), Request{ContainerID: two.id, NetNS: two.NetNS, Network: "far"}); err == nil || !strings.HasSuffix(err.Error(), "remote: no such luck") {
		t.Errorf("a driver that refuses: %v", err)
	}
	expect("a failure", "CreateEndpoint 10.85.0.3/24", "Join", "Leave", "DeleteEndpoint", "its interface is back")
	d.fail = ""
	if err := b.n.Remove(t.Context(), "far"); err != nil {
		t.Error(err)
	}
	expect("remove", "DeleteNetwork")
	if len(b.n.holds.all()) > 0 {
		t.Errorf("held: %v", b.n.holds.all())
	}
}

// TestCNIPorts publishes a port by CNI's plugin portmap.
func TestCNIPorts(t *testing.T) {
	need.Program(t, "iptables", "Debian's iptables, which portmap runs")
	b, _ := cniBench(t, map[string]string{
		"mapped": `{"cniVersion": "1.0.0", "name": "mapped", "plugins": [{"type": "bridge", "bridge": "cnit1", "isGateway": true, ` + ipamOf("10.87.0.0/24") + `}, {"type": "portmap", "capabilities": {"portMappings": true}, "snat": false}]}`,
	})
	tables := b.inventory()
	t.Cleanup(func() { // those of iptables stay for ever
		c, err := nft.Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, family := range []nft.Family{nft.IPv4, nft.IPv6} {
			for _, name := range []string{"filter", "nat"} {
				batch := nft.NewBatch(name)
				batch.In(family)
				batch.AddTable()
				batch.DelTable()
				if err := c.Commit(batch); err != nil && !slices.Contains(tables, "table "+name) {
					t.Error(err)
				}
			}
		}
	})
	b.create(network.CreateRequest{Name: "mapped", Driver: "cni", Options: map[string]string{"conf": "mapped"}})
	one := b.connect(Request{Name: "one", Network: "mapped", Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 8087}}})
	serve(t, one.NetNS, "tcp", ":80")
	reaches(t, "outside to what portmap publishes", b.other, "tcp", machine.String()+":8087", outside.String())
	if err := b.n.Release(t.Context(), one.id); err != nil {
		t.Error(err)
	}
	silent(t, "after the end", b.other, "tcp", machine.String()+":8087")
	one.NetNS.Close()
	b.remove("cnit1")
}
