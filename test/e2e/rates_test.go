package e2e

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/linux/tc"
	"lade/internal/need"
	"lade/internal/netrate"
	"lade/test/harness"
)

// rate checks how fast a container receives from the host, and sends to it:
// rate CONTAINER IN OUT, where a rate of 0 is none.
func rate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: rate CONTAINER IN OUT")
	}
	in, err := netrate.Parse(args[1])
	ts.Check(err)
	out, err := netrate.Parse(args[2])
	ts.Check(err)
	ts.Check(limited(ts.Value(engine{}).(*harness.Engine), args[0], in, out))
}

// limited measures both directions of a container, one after the other.
func limited(e *harness.Engine, name string, in, out netrate.Bits) error {
	pid, addr, _ := strings.Cut(e.Run("inspect", "-f", "{{.State.Pid}} {{.NetworkSettings.Networks.bridge.IPAddress}}", name), " ")
	ns, err := os.Open("/proc/" + pid + "/ns/net")
	if err != nil {
		return err
	}
	defer ns.Close()
	for _, d := range []struct {
		what  string
		limit netrate.Bits
		sends bool
	}{{"in", in, false}, {"out", out, true}} {
		least, most := 0.7*float64(d.limit)*window, 1.03*float64(d.limit)*window+burst*8
		if d.limit == 0 { // many times what the tests allow
			least, most = 5e7*window, math.Inf(1)
		}
		got := -1.0
		// A busy machine sends too little, or reads late and then at once what had
		// come in time. What does not limit, or too much, does so each time.
		for try := 0; try < 6 && (got < least || got > most); try++ {
			if got, err = transfer(ns, addr, d.sends); err != nil {
				return fmt.Errorf("%s %s: %w", name, d.what, err)
			}
		}
		if got < least || got > most {
			return fmt.Errorf("%s %s: %.0f bits in %v s at a limit of %s", name, d.what, got, window, d.limit)
		}
	}
	return nil
}

// A transfer takes so many seconds, and may have so many bytes at once: the
// largest burst of these tests.
const window, burst = 0.9, 32 << 10

// transfer sends to a server in a namespace over TCP, or lets it send, and
// returns how many bits of frames arrived within the window.
func transfer(ns *os.File, addr string, sends bool) (float64, error) {
	var l net.Listener
	err := netns.Do(ns, func() (err error) {
		l, err = net.Listen("tcp4", addr+":0")
		return err
	})
	if err != nil {
		return 0, err
	}
	defer l.Close()
	client, err := net.DialTimeout("tcp4", l.Addr().String(), need.Patience(30*time.Second))
	if err != nil {
		return 0, err
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		return 0, err
	}
	defer server.Close()
	from, to := client, server
	if sends {
		from, to = server, client
	}
	go io.Copy(from, zeroes{})
	start, bytes := time.Now(), 0
	buf := make([]byte, 64<<10)
	for {
		to.SetReadDeadline(time.Now().Add(need.Patience(30 * time.Second)))
		n, err := to.Read(buf)
		if err != nil {
			return 0, err
		}
		if time.Since(start).Seconds() > window {
			// A rate counts frames of 1514 bytes, which carry 1448.
			return float64(bytes) * 8 * 1514 / 1448, nil
		}
		bytes += n
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { return len(p), nil }

// TestRates: the daemon's default holds for containers that ask for nothing;
// limits outlive the daemon; nothing that a privileged container does lifts
// them.
func TestRates(t *testing.T) {
	e := harness.Start(t, "--net-rate-in=4mbit", "--net-rate-out=6mbit")
	e.Run("run", "-d", "--name", "default", "lade/hello", "sleep", "1000")
	e.Run("run", "-d", "--name", "own", "--privileged", "--net-rate-in=8mbit", "--net-rate-out=0", "lade/hello", "sleep", "1000")
	check := func(when, name string, in, out netrate.Bits) {
		t.Helper()
		if err := limited(e, name, in, out); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	check("default", "default", 4e6, 6e6)
	check("own", "own", 8e6, 0)
	e.Run("update", "--net-rate-out=5mbit", "own")
	clear := func() {
		pid := e.Run("inspect", "-f", "{{.State.Pid}}", "own")
		ns, err := os.Open("/proc/" + pid + "/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		if err := netns.Do(ns, func() error { return strip("eth0") }); err != nil {
			t.Errorf("remove the limits from inside: %v", err)
		}
	}
	clear()
	check("cleared inside", "own", 8e6, 5e6)

	e.Kill()
	e.Launch()
	check("after kill -9", "default", 4e6, 6e6)
	check("after kill -9", "own", 8e6, 5e6)
	if got := e.Run("inspect", "-f", "{{.HostConfig.NetRateIn}} {{.HostConfig.NetRateOut}}", "default", "own"); got != "4000000 6000000\n8000000 5000000" {
		t.Errorf("inspect after kill -9: %s", got)
	}
	e.Run("update", "--net-rate-in=0", "--net-rate-out=3mbit", "default")
	check("updated after kill -9", "default", 0, 3e6)
	if got := e.Run("network", "inspect", "-f", "{{index .Options \"lade.net-rate-in\"}} {{index .Options \"lade.net-rate-out\"}}", "bridge"); got != "4mbit 6mbit" {
		t.Errorf("network inspect: %s", got)
	}
	e.Run("rm", "-f", "default", "own")
}

// strip takes every queueing discipline from an interface, as a process with
// CAP_NET_ADMIN in its namespace can.
func strip(name string) error {
	c, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := c.Link(0, name)
	if err != nil {
		return err
	}
	for _, del := range []func(*netlink.Request, int){tc.DelRoot, tc.DelIngress} {
		var r netlink.Request
		del(&r, l.Index)
		if err := c.Do(&r); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return nil
}

// TestRatesStats: stats tell the limits and what they did, and cost nothing
// without.
func TestRatesStats(t *testing.T) {
	e := harness.Start(t)
	e.Run("run", "-d", "--name", "some", "--net-rate-out=3mbit", "--net-burst=32k", "lade/hello", "sleep", "1000")
	e.Run("run", "-d", "--name", "none", "lade/hello", "sleep", "1000")
	if err := limited(e, "some", 0, 3e6); err != nil {
		t.Errorf("the limits of some: %v", err)
	}
	body := func(name string) string {
		t.Helper()
		conn, err := net.Dial("unix", e.Socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /containers/%s/stats?stream=0&one-shot=1 HTTP/1.0\r\n\r\n", name)
		b, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	some := body("some")
	if !strings.Contains(some, `"net_rates":{"out":{"rate":3000000,"burst":32768,"backlog":`) || strings.Contains(some, `"overlimits":0}`) || !strings.Contains(some, `"overlimits":`) {
		t.Errorf("stats of a container with limits: %s", some)
	}
	if none := body("none"); strings.Contains(none, "net_rates") || !strings.Contains(none, `"networks":{"eth0"`) {
		t.Errorf("stats of a container without limits: %s", none)
	}
	e.Run("rm", "-f", "some", "none")
}
