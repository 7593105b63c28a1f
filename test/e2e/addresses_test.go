package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// landlord is an address plugin with one pool. Docker's protocol:
// github.com/moby/libnetwork, docs/ipam.md.
type landlord struct {
	t *testing.T

	mu    sync.Mutex
	pool  netip.Prefix
	used  map[netip.Addr]bool
	color string // what --ipam-opt said
}

func (p *landlord) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var q struct {
		Pool, Address string
		Options       map[string]string
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil && r.ContentLength > 0 {
		p.t.Errorf("the engine's request: %v", err)
	}
	if err := json.NewEncoder(w).Encode(p.answer(strings.TrimPrefix(r.URL.Path, "/IpamDriver."), q.Pool, q.Address, q.Options)); err != nil {
		p.t.Errorf("the plugin's answer: %v", err)
	}
}

func (p *landlord) answer(method, pool, address string, options map[string]string) any {
	switch method {
	case "/Plugin.Activate":
		return map[string]any{"Implements": []string{"IpamDriver"}}
	case "GetDefaultAddressSpaces":
		return map[string]string{"LocalDefaultAddressSpace": "here", "GlobalDefaultAddressSpace": "here"}
	case "RequestPool":
		p.color = options["color"]
		p.pool = netip.MustParsePrefix("10.93.0.0/24")
		if pool != "" {
			p.pool = netip.MustParsePrefix(pool)
		}
		return map[string]any{"PoolID": "1", "Pool": p.pool.String()}
	case "ReleasePool":
		p.pool = netip.Prefix{}
	case "RequestAddress":
		ip := p.pool.Addr().Next()
		if options["RequestAddressType"] == "" && address == "" { // containers are from 100 on
			b := p.pool.Addr().As4()
			b[3] = 100
			ip = netip.AddrFrom4(b)
		}
		if address != "" {
			ip = netip.MustParseAddr(address)
		}
		for address == "" && p.used[ip] {
			ip = ip.Next()
		}
		if p.used[ip] {
			return map[string]string{"Error": "somebody has " + ip.String()}
		}
		p.used[ip] = true
		return map[string]any{"Address": netip.PrefixFrom(ip, p.pool.Bits()).String()}
	case "ReleaseAddress":
		delete(p.used, netip.MustParseAddr(address))
	}
	return struct{}{}
}

// has says what is given out.
func (p *landlord) has() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprint(p.pool, slices.SortedFunc(maps.Keys(p.used), netip.Addr.Compare))
}

// TestAddressDriver has Docker's client make a network whose addresses are another
// program's (--ipam-driver): containers have what that program gives, reach each
// other there, keep it when the daemon is killed, and give it back.
func TestAddressDriver(t *testing.T) {
	need.Root(t)
	docker := need.Program(t, "docker", "Docker's client")
	host := ownHost(t)
	name := fmt.Sprintf("ladeaddr%d", os.Getpid())
	p := &landlord{t: t, used: map[netip.Addr]bool{}}
	e := harness.StartIn(t, host)
	run := func(args ...string) string {
		t.Helper()
		out, err := e.Command(docker, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	refused := func(want string, args ...string) {
		t.Helper()
		if out, err := e.Command(docker, args...).CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("docker %s: %v: %s; want %s", strings.Join(args, " "), err, out, want)
		}
	}
	refused(`plugin "`+name+`" not found`, "network", "create", "--ipam-driver", name, "given")
	servePlugin(t, name, p)
	run("network", "create", "--ipam-driver", name, "--ipam-opt", "color=blue", "given")
	if p.color != "blue" {
		t.Errorf("the plugin was told of %q", p.color)
	}
	if got, want := run("network", "inspect", "-f", "{{.IPAM.Driver}} {{.IPAM.Options}} {{range .IPAM.Config}}{{.Subnet}} {{.Gateway}}{{end}}", "given"), name+" map[color:blue] 10.93.0.0/24 10.93.0.1"; got != want {
		t.Errorf("inspect: %s, want %s", got, want)
	}
	web := []string{"lade/hello", "sh", "-c", "mkdir /w; echo served > /w/index.html; exec httpd -p 80 -h /w"}
	run(append([]string{"run", "-d", "--name", "one", "--network", "given"}, web...)...)
	run(append([]string{"run", "-d", "--name", "two", "--network", "given", "--ip", "10.93.0.77"}, web...)...)
	reaches := func(from, to string) {
		t.Helper()
		run("exec", from, "sh", "-c", "until wget -q -T 30 -O - http://"+to+"/index.html; do sleep 0.1; done")
	}
	address := "{{.NetworkSettings.Networks.given.IPAddress}} {{.NetworkSettings.Networks.given.Gateway}}"
	if got := run("inspect", "-f", address, "one", "two"); got != "10.93.0.100 10.93.0.1\n10.93.0.77 10.93.0.1" {
		t.Errorf("addresses: %s", got)
	}
	reaches("one", "10.93.0.77")
	reaches("two", "one")
	if err := pageOn(host, "10.93.0.100:80"); err != nil {
		t.Errorf("from the host: %v", err)
	}
	refused("somebody has 10.93.0.77", "run", "-d", "--name", "three", "--network", "given", "--ip", "10.93.0.77", "lade/hello", "sleep", "1000")
	run("rm", "-f", "three")
	run("network", "create", "plain")
	run("network", "connect", "plain", "one")
	run("network", "disconnect", "given", "one")
	run("network", "connect", "given", "one")
	want := "10.93.0.0/24 [10.93.0.1 10.93.0.77 10.93.0.100]"
	if got := p.has(); got != want {
		t.Errorf("given: %s, want %s", got, want)
	}
	e.Kill()
	e.Launch()
	if got := p.has(); got != want {
		t.Errorf("after kill -9: %s, want %s", got, want)
	}
	reaches("two", "10.93.0.100")
	refused("has active endpoints", "network", "rm", "given")
	run("rm", "-f", "one", "two")
	run("network", "rm", "given", "plain")
	if got := p.has(); got != "invalid Prefix []" {
		t.Errorf("kept: %s", got)
	}
	// A subnet that was asked for, with an address that stays free.
	run("network", "create", "--ipam-driver", name, "--subnet", "10.94.0.0/24", "--gateway", "10.94.0.254", "--aux-address", "router=10.94.0.100", "given")
	if got := run("run", "--rm", "--network", "given", "lade/hello", "ip", "-4", "address", "show", "eth0"); !strings.Contains(got, "10.94.0.101/24") {
		t.Errorf("beside an auxiliary address: %s", got)
	}
	run("network", "rm", "given")
	if got := p.has(); got != "invalid Prefix []" {
		t.Errorf("kept: %s", got)
	}
}
