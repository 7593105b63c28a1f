package network

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/moby/moby/api/types/network"

	"lade/internal/errdefs"
	"lade/internal/need"
	"lade/internal/plugin"
	"lade/internal/store"
)

// registrar is an address plugin: it gives out 10.66.n.0/24 and fd66:n::/64.
type registrar struct {
	t     *testing.T
	needs map[string]bool

	mu    sync.Mutex
	pools map[string]netip.Prefix   // by id
	used  map[string]map[string]int // by pool and address, how often
	macs  []string
	kill  func(method string) bool // called before a request, which comes to nothing then
}

// serveAddresses starts the plugin "registry" in a directory of plugins.
func serveAddresses(t *testing.T, dir string) *registrar {
	t.Helper()
	r := &registrar{t: t, needs: map[string]bool{}, pools: map[string]netip.Prefix{}, used: map[string]map[string]int{}}
	need.ServeHTTP(t, filepath.Join(dir, "registry.sock"), r)
	return r
}

func (p *registrar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := strings.TrimPrefix(r.URL.Path, "/IpamDriver.")
	var q struct {
		AddressSpace, Pool, SubPool, PoolID, Address string
		V6                                           bool
		Options                                      map[string]string
	}
	json.NewDecoder(r.Body).Decode(&q)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kill != nil && p.kill(method) {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	answer := any(map[string]any{})
	refuse := func(format string, args ...any) { answer = map[string]string{"Error": fmt.Sprintf(format, args...)} }
	switch method {
	case "/Plugin.Activate":
		answer = map[string]any{"Implements": []string{"IpamDriver"}}
	case "GetCapabilities":
		answer = p.needs
	case "GetDefaultAddressSpaces":
		answer = map[string]string{"LocalDefaultAddressSpace": "here", "GlobalDefaultAddressSpace": "everywhere"}
	case "RequestPool":
		if q.AddressSpace != "here" || q.Options["color"] == "none" {
			refuse("no such color")
			break
		}
		subnet := netip.MustParsePrefix(fmt.Sprintf("10.66.%d.0/24", len(p.pools)))
		if q.V6 {
			subnet = netip.MustParsePrefix(fmt.Sprintf("fd66:%d::/64", len(p.pools)))
		}
		if q.Pool != "" {
			subnet = netip.MustParsePrefix(q.Pool)
		}
		id := "pool-" + subnet.String()
		if p.pools[id] = subnet; p.used[id] == nil {
			p.used[id] = map[string]int{}
		}
		answer = map[string]any{"PoolID": id, "Pool": subnet.String(), "Data": map[string]string{}}
	case "ReleasePool":
		if len(p.used[q.PoolID]) > 0 {
			refuse("addresses of %s are in use", q.PoolID)
			break
		}
		delete(p.pools, q.PoolID)
		delete(p.used, q.PoolID)
	case "RequestAddress":
		subnet, ok := p.pools[q.PoolID]
		used := p.used[q.PoolID]
		ip := subnet.Addr().Next()
		for ok && q.Address == "" && used[ip.String()] > 0 {
			ip = ip.Next()
		}
		if q.Address != "" {
			ip = netip.MustParseAddr(q.Address)
		}
		if !ok || used[ip.String()] > 0 {
			refuse("%s is in use", ip)
			break
		}
		used[ip.String()]++
		if mac := q.Options["com.docker.network.endpoint.macaddress"]; mac != "" {
			p.macs = append(p.macs, mac)
		}
		answer = map[string]any{"Address": netip.PrefixFrom(ip, subnet.Bits()).String(), "Data": map[string]string{}}
	case "ReleaseAddress":
		delete(p.used[q.PoolID], q.Address)
	}
	json.NewEncoder(w).Encode(answer)
}

// has returns the subnets and addresses that are given out, in order.
func (p *registrar) has() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for id, subnet := range p.pools {
		out = append(out, subnet.String())
		for a := range p.used[id] {
			out = append(out, a)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (p *registrar) expect(what, want string) {
	p.t.Helper()
	eventually(p.t, what, func() error {
		if got := p.has(); got != want {
			return fmt.Errorf("the plugin has given %q, want %q", got, want)
		}
		return nil
	})
}

// TestAddressPlugin has a network's addresses from a plugin.
func TestAddressPlugin(t *testing.T) {
	dir := t.TempDir()
	b := newBench(t, func(c *Config) {
		c.Plugins, c.PoolSize = plugin.Dirs{Sockets: []string{dir}, Specs: []string{dir}}, -1
	})
	q := network.CreateRequest{Name: "n", IPAM: &network.IPAM{Driver: "registry", Options: map[string]string{"color": "none"}}}
	if _, err := b.n.Create(t.Context(), q); errdefs.KindOf(err) != errdefs.NotFound || err.Error() != `plugin "registry" not found` {
		t.Errorf("without the plugin: %v", err)
	}
	p := serveAddresses(t, dir)
	if _, err := b.n.Create(t.Context(), q); err == nil || err.Error() != "remote: no such color" || b.n.ID("n") != "" {
		t.Errorf("a plugin that refuses: %v", err)
	}
	q.IPAM.Options = nil
	q.IPAM.Config = []network.IPAMConfig{{Subnet: netip.MustParsePrefix("10.67.0.0/24"), AuxAddress: map[string]netip.Addr{"a": netip.MustParseAddr("10.67.0.2")}}}
	b.create(q)
	p.expect("create", "10.67.0.0/24 10.67.0.1 10.67.0.2")
	other := network.CreateRequest{Name: "o", Driver: driverMacvlan, IPAM: &network.IPAM{Driver: "registry", Config: q.IPAM.Config}}
	if _, err := b.n.Create(t.Context(), other); errdefs.KindOf(err) != errdefs.Forbidden || !strings.Contains(err.Error(), "Pool overlaps") {
		t.Errorf("the plugin gives a subnet twice: %v", err)
	}
	p.expect("a subnet of another network", "10.67.0.0/24 10.67.0.1 10.67.0.2")
	if err := b.n.Remove(t.Context(), "n"); err != nil {
		t.Fatal(err)
	}
	b.create(q)

	one := b.connect(Request{Name: "one", Network: "n"})
	two := b.connect(Request{Name: "two", Network: "n", IPv4: netip.MustParseAddr("10.67.0.9")})
	if got := fmt.Sprint(one.IPv4, " ", one.Gateway, " ", two.IPv4); got != "10.67.0.3/24 10.67.0.1 10.67.0.9/24" {
		t.Errorf("endpoints: %s", got)
	}
	serve(t, one.NetNS, "tcp", ":80")
	answers(t, "container to container", two.NetNS, "tcp", "10.67.0.3:80", "10.67.0.9")
	_, err := b.n.Connect(t.Context(), Request{ContainerID: "x", Network: "n", IPv4: netip.MustParseAddr("10.67.0.9")})
	if err == nil || err.Error() != "remote: 10.67.0.9 is in use" {
		t.Errorf("an address in use: %v", err)
	}
	three := b.connect(Request{Name: "three"})
	p.mu.Lock()
	p.needs["RequiresMACAddress"] = true // is asked of new networks only
	p.mu.Unlock()
	three.attach(Request{Name: "three", Network: "n"})
	p.expect("attach", "10.67.0.0/24 10.67.0.1 10.67.0.2 10.67.0.3 10.67.0.4 10.67.0.9")
	if err := b.n.Detach(t.Context(), three.id, "n", three.NetNS); err != nil {
		t.Error(err)
	}
	p.expect("detach", "10.67.0.0/24 10.67.0.1 10.67.0.2 10.67.0.3 10.67.0.9")
	in, err := b.n.Inspect("n")
	if err != nil || in.IPAM.Driver != "registry" || in.IPAM.Config[0].Gateway.String() != "10.67.0.1" {
		t.Errorf("inspect: %+v, %v", in, err)
	}

	// One has ended while the engine was away.
	b.crash()
	b.start()
	if err := b.n.Restore(t.Context(), map[string]bool{two.id: true}); err != nil {
		t.Fatal(err)
	}
	p.expect("a start", "10.67.0.0/24 10.67.0.1 10.67.0.2 10.67.0.9")
	again := b.connect(Request{Name: "again", Network: "n", Again: []netip.Addr{netip.MustParseAddr("10.67.0.9"), netip.MustParseAddr("10.67.0.7")}})
	if again.IPv4.String() != "10.67.0.7/24" {
		t.Errorf("again: %s", again.IPv4)
	}
	for _, x := range []*box{two, again} {
		if err := b.n.Release(t.Context(), x.id); err != nil {
			t.Error(err)
		}
	}
	if err := b.n.Remove(t.Context(), "n"); err != nil {
		t.Fatal(err)
	}
	p.expect("the end", "")
	if got := b.n.grants.all(); len(got) > 0 {
		t.Errorf("recorded still: %v", got)
	}
}

// TestAddressPluginForgets has a plugin that forgets, and wants to know hardware
// addresses.
func TestAddressPluginForgets(t *testing.T) {
	dir := t.TempDir()
	b := newBench(t, func(c *Config) {
		c.Plugins, c.PoolSize = plugin.Dirs{Sockets: []string{dir}, Specs: []string{dir}}, -1
	})
	p := serveAddresses(t, dir)
	p.needs["RequiresRequestReplay"], p.needs["RequiresMACAddress"] = true, true
	b.create(network.CreateRequest{Name: "n", IPAM: &network.IPAM{Driver: "registry", Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix("10.67.0.0/24")}}}})
	one := b.connect(Request{Name: "one", Network: "n"})
	if !slices.Equal(p.macs, []string{one.MAC.String()}) {
		t.Errorf("the plugin was told of %v, the container has %s", p.macs, one.MAC)
	}
	before := p.has()
	b.crash()
	p.mu.Lock()
	p.pools, p.used = map[string]netip.Prefix{}, map[string]map[string]int{}
	p.mu.Unlock()
	b.start()
	if err := b.n.Restore(t.Context(), map[string]bool{one.id: true}); err != nil {
		t.Fatal(err)
	}
	p.expect("all is asked for again", before)
	if err := b.n.Release(t.Context(), one.id); err != nil {
		t.Error(err)
	}
	if err := b.n.Remove(t.Context(), "n"); err != nil {
		t.Error(err)
	}
	p.expect("the end", "")
}

// leasingDir names the store of the engine that TestAddressPluginCrash kills.
const leasingDir = "LADE_TEST_LEASING"

// TestLeasing is that engine.
func TestLeasing(t *testing.T) {
	dir, plugins, _ := strings.Cut(os.Getenv(leasingDir), ":")
	if dir == "" {
		return
	}
	s, err := store.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	n, err := New(t.Context(), Config{Logger: slog.New(slog.DiscardHandler), Bridge: os.Getenv(leasingDir + "_BRIDGE"), ICC: true, PoolSize: -1, Store: s, Plugins: plugin.Dirs{Sockets: []string{plugins}}})
	if err != nil {
		t.Fatal(err)
	}
	six := true
	if _, err := n.Create(t.Context(), network.CreateRequest{Name: "n", EnableIPv6: &six, IPAM: &network.IPAM{Driver: "registry"}}); err != nil {
		t.Fatal(err)
	}
	e, err := n.Connect(t.Context(), Request{ContainerID: "1", Network: "n"})
	if err != nil {
		t.Fatal(err)
	}
	e.NetNS.Close()
	if err := n.Release(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	if err := n.Remove(t.Context(), "n"); err != nil {
		t.Fatal(err)
	}
}

// TestAddressPluginCrash kills an engine whenever the plugin hears of it the next
// time: what it had been given by then is given back by the next one.
func TestAddressPluginCrash(t *testing.T) {
	dir := t.TempDir()
	b := newBench(t, func(c *Config) {
		c.Plugins, c.PoolSize = plugin.Dirs{Sockets: []string{dir}, Specs: []string{dir}}, -1
	})
	b.six()
	p := serveAddresses(t, dir)
	b.crash()
	for at := 1; ; at++ {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestLeasing$")
		cmd.Env = append(os.Environ(), leasingDir+"="+b.dir+":"+dir, leasingDir+"_BRIDGE="+b.c.Bridge)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		heard := 0
		var method string
		p.mu.Lock()
		p.kill = func(m string) bool {
			if heard++; heard == at {
				method = m
				cmd.Process.Kill()
			}
			return heard >= at
		}
		p.mu.Unlock()
		err := cmd.Run()
		p.mu.Lock()
		p.kill = nil
		p.mu.Unlock()
		if method == "" { // it came to its end
			if err != nil {
				t.Fatalf("the engine failed by itself: %v\n%s", err, out.String())
			}
			p.expect("the end", "")
			break
		}
		b.start()
		if err := b.n.Restore(t.Context(), nil); err != nil {
			t.Error(err)
		}
		there := b.n.ID("n") != ""
		if there {
			eventually(t, "the addresses of the container are given back", func() error {
				if got := len(strings.Fields(p.has())); got != 4 { // two subnets, each with its gateway
					return fmt.Errorf("the plugin has given %s", p.has())
				}
				return nil
			})
			if err := b.n.Remove(t.Context(), "n"); err != nil {
				t.Error(err)
			}
		}
		p.expect(fmt.Sprintf("killed at request %d, %s (network: %v)", at, method, there), "")
		if t.Failed() {
			break
		}
		b.crash()
	}
	b.start()
}
