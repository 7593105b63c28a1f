package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/need"
	"lade/test/harness"
)

// twoHosts returns two network namespaces with a link between them.
func twoHosts(t *testing.T, a, b netip.Prefix) [2]*os.File {
	t.Helper()
	need.Root(t)
	host := func(f func(c *netlink.Conn) error) (*os.File, error) {
		return netns.New(func(*os.File) error {
			c, err := netlink.Dial(unix.NETLINK_ROUTE)
			if err != nil {
				return err
			}
			defer c.Close()
			return f(c)
		})
	}
	address := func(c *netlink.Conn, p netip.Prefix) error {
		l, err := c.Link(0, "wire")
		if err != nil {
			return err
		}
		var r netlink.Request
		r.SetUp(1, "")
		r.SetUp(l.Index, "")
		r.AddAddr(l.Index, p)
		return c.Do(&r)
	}
	var out [2]*os.File
	var err error
	if out[1], err = host(func(c *netlink.Conn) error { return nil }); err == nil {
		out[0], err = host(func(c *netlink.Conn) error {
			var r netlink.Request
			r.AddVeth(netlink.Veth{Name: "wire", MTU: 1500, Peer: "wire", PeerNS: out[1]})
			return errors.Join(c.Do(&r), address(c, a))
		})
	}
	if err == nil {
		err = netns.Do(out[1], func() error {
			c, err := netlink.Dial(unix.NETLINK_ROUTE)
			if err != nil {
				return err
			}
			defer c.Close()
			return address(c, b)
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { errors.Join(out[0].Close(), out[1].Close()) })
	return out
}

// TestOverlay has Docker's client make one network on two hosts, whose containers
// reach each other also while their engines are dead, and when a host comes back.
func TestOverlay(t *testing.T) {
	docker := need.Program(t, "docker", "Docker's client")
	hosts := twoHosts(t, netip.MustParsePrefix("10.80.0.1/24"), netip.MustParsePrefix("10.80.0.2/24"))
	one, two := harness.StartIn(t, hosts[0]), harness.StartIn(t, hosts[1])
	run := func(e *harness.Engine, args ...string) (string, error) {
		out, err := e.Command(docker, args...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("docker %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out)), err
	}
	must := func(e *harness.Engine, args ...string) string {
		t.Helper()
		out, err := run(e, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	one.Import()
	create := func(e *harness.Engine) {
		t.Helper()
		must(e, "network", "create", "-d", "overlay", "--attachable", "--subnet", "10.90.0.0/24", "--ipv6", "--subnet", "fd00:90::/64", "-o", "peers=10.80.0.1,10.80.0.2", "wide")
	}
	create(one)
	create(two)
	if got := must(one, "network", "inspect", "-f", "{{.Driver}} {{range .IPAM.Config}}{{.Subnet}} {{.IPRange}} {{.Gateway}} {{end}}", "wide"); got != "overlay 10.90.0.0/24 10.90.0.0/25 10.90.0.1 fd00:90::/64 fd00:90::/65 fd00:90::1" {
		t.Errorf("inspect: %s", got)
	}
	serve := func() {
		must(one, "run", "-d", "--name", "web", "--network", "wide", "--network-alias", "shop", "lade/hello", "sh", "-c",
			"mkdir /w; head -c 20000000 /dev/zero > /w/large; echo served > /w/index.html; httpd -f -p 80 -h /w")
	}
	ip := func(e *harness.Engine, name string) string {
		return must(e, "inspect", "-f", "{{.NetworkSettings.Networks.wide.IPAddress}}", name)
	}
	serve()
	must(two, "run", "-d", "--name", "client", "--network", "wide", "lade/hello", "sleep", "1000")
	web, client := ip(one, "web"), ip(two, "client")
	if web != "10.90.0.2" || client != "10.90.0.129" && client != "10.90.0.130" {
		t.Errorf("addresses %s, %s", web, client)
	}
	fetch := func() error {
		out, err := run(two, "exec", "client", "wget", "-T", "2", "-q", "-O", "-", "http://"+web+"/")
		if err == nil && out != "served" {
			err = fmt.Errorf("got %q", out)
		}
		return err
	}
	eventually := func(what string, f func() error) {
		t.Helper()
		err := f()
		for end := time.Now().Add(need.Patience(30 * time.Second)); err != nil && time.Now().Before(end); err = f() {
			time.Sleep(20 * time.Millisecond)
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	eventually("host to host", fetch)
	named := func(name string) func() error {
		return func() error {
			out, err := run(two, "exec", "client", "wget", "-T", "5", "-q", "-O", "-", "http://"+name+"/")
			if err == nil && out != "served" {
				err = fmt.Errorf("got %q", out)
			}
			return err
		}
	}
	for _, name := range []string{"web", "web.wide", "shop"} {
		eventually("by the name "+name+" of a container on the other host", named(name))
	}
	if out, err := run(two, "exec", "client", "nslookup", "nobody.wide"); err == nil {
		t.Errorf("nobody is %s", out)
	}
	must(one, "run", "--rm", "--network", "wide", harness.Image, "ping", "-c", "1", "-W", "5", client)
	client6 := must(two, "inspect", "-f", "{{.NetworkSettings.Networks.wide.GlobalIPv6Address}}", "client")
	must(one, "run", "--rm", "--network", "wide", harness.Image, "ping", "-6", "-c", "2", "-W", "5", client6)
	if got := must(two, "exec", "client", "sh", "-c", "wget -q -O - http://"+web+"/large | wc -c"); got != "20000000" {
		t.Errorf("of a large file %s bytes came", got)
	}

	one.Kill()
	eventually("while one engine is dead", fetch)
	eventually("its names", named("web"))
	one.Launch()
	eventually("after its start", fetch)

	// A host goes and comes.
	must(one, "rm", "-f", "web")
	must(one, "network", "rm", "wide")
	if fetch() == nil {
		t.Error("a container that is gone answers")
	}
	create(one)
	serve()
	if again := ip(one, "web"); again != web {
		t.Errorf("the address is %s now", again)
	}
	eventually("after the host came back", fetch)
	eventually("by its name", named("web"))

	// Hosts with addresses that people chose are known by these.
	for i, e := range []*harness.Engine{one, two} {
		must(e, "network", "create", "-d", "overlay", "--subnet", "10.91.0.0/24", "--ip-range", []string{"10.91.0.64/26", "10.91.0.128/26"}[i],
			"--gateway", []string{"10.91.0.77", "10.91.0.180"}[i], "-o", "peers=10.80.0.1,10.80.0.2", "-o", "bridges=10.91.0.77,10.91.0.180", "chosen")
	}
	must(one, "run", "-d", "--name", "shop", "--network", "chosen", "lade/hello", "sleep", "1000")
	must(two, "run", "-d", "--name", "asks", "--network", "chosen", "lade/hello", "sleep", "1000")
	eventually("a name on a host whose addresses were chosen", func() error {
		out, err := run(two, "exec", "asks", "nslookup", "shop")
		if at := must(one, "inspect", "-f", "{{.NetworkSettings.Networks.chosen.IPAddress}}", "shop"); err == nil && !strings.Contains(out, at) {
			err = fmt.Errorf("it is %s; got %q", at, out)
		}
		return err
	})
	must(one, "rm", "-f", "web", "shop")
	must(two, "rm", "-f", "client", "asks")
	must(one, "network", "rm", "chosen")
	must(two, "network", "rm", "chosen")
	for i, e := range []*harness.Engine{one, two} {
		must(e, "network", "rm", "wide")
		err := netns.Do(hosts[i], func() error {
			c, err := netlink.Dial(unix.NETLINK_ROUTE)
			if err != nil {
				return err
			}
			defer c.Close()
			links, err := c.Links()
			for _, l := range links {
				if l.Kind == "vxlan" || strings.HasPrefix(l.Name, "br-") {
					t.Errorf("left behind: %s", l.Name)
				}
			}
			return err
		})
		if err != nil {
			t.Errorf("what listens in the namespace of a host: %v", err)
		}
	}
}
