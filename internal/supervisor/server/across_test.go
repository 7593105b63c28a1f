package server

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"lade/internal/dns"
	"lade/internal/supervisor/wire"
)

// otherHost is the supervisor of another host, on an address of this one.
type otherHost struct {
	c  net.PacketConn
	at netip.AddrPort

	mu    sync.Mutex
	asked []string // names
}

// newHost answers from names; nil: it is silent.
func newHost(t *testing.T, ip string, names *dns.Network) *otherHost {
	t.Helper()
	c, err := net.ListenPacket("udp4", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	h := &otherHost{c: c, at: c.LocalAddr().(*net.UDPAddr).AddrPort()}
	view := dns.View{Members: []dns.Member{{Network: names}}}
	go func() {
		in := make([]byte, 4096)
		for {
			n, from, err := c.ReadFrom(in)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(in[:n]) != nil || m.Response {
				continue
			}
			h.mu.Lock()
			h.asked = append(h.asked, m.Questions[0].Name.String())
			h.mu.Unlock()
			if names == nil {
				continue
			}
			reply, verdict := view.Answer(nil, in[:n], false)
			if verdict == dns.Ask {
				reply = dns.Unknown(nil, in[:n])
			}
			_, _ = c.WriteTo(reply, from)
		}
	}()
	return h
}

func (h *otherHost) heard() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.asked, " ")
}

// ask asks the supervisor at an address for the name of one of its containers.
func (h *otherHost) ask(t *testing.T, from string, to netip.AddrPort, wait time.Duration) string {
	t.Helper()
	c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(from)}, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(wait))
	return exchange(t, c, question("web.", typeA))
}

// TestNamesAcross has a network that is on three hosts, of which one is silent.
func TestNamesAcross(t *testing.T) {
	b := newSandbox(t)
	e := inProcess(t, func(o *Options) { o.Abroad = 3 * time.Second }) // the machine is busy
	e.names()
	names := &dns.Network{}
	names.Set("front", []dns.Host{{Names: []string{"far", "distant"}, Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.130")}}})
	far, silent := newHost(t, "127.77.0.2", names), newHost(t, "127.77.0.3", nil)
	free := newHost(t, "127.77.0.1", nil) // has a port that we can have
	here := free.at
	free.c.Close()
	m := &wire.SetNames{Network: "n1", Name: "front", Hosts: []wire.Host{host("web 0123456789ab", "10.1.0.2")},
		Across: &wire.Across{Here: here, Peers: []netip.AddrPort{far.at, silent.at}, Subnets: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}}
	if err := e.client.SetNames(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	id, _ := e.named(b, resolverOn(goodServer))
	b.upstream(b.ns, goodServer, 0, false)
	for _, x := range []struct {
		network, name string
		typ           dnsmessage.Type
		want          string
	}{
		{"udp", "far.", typeA, "Success 10.1.0.130"},
		{"udp", "distant.front.", typeA, "Success 10.1.0.130"},
		{"tcp", "FAR.", typeA, "Success 10.1.0.130"},
		{"udp", "far.", typeAAAA, "Success"},
		{"udp", "130.0.1.10.in-addr.arpa.", typePTR, "Success far.front."},
		{"udp", "web.", typeA, "Success 10.1.0.2"},
		{"udp", "nobody.", typeA, "Success " + goodServer + " nobody."}, // and the silent host is remembered
		{"udp", "other.back.", typeA, "Success " + goodServer + " other.back."},
		{"udp", "9.0.2.10.in-addr.arpa.", typePTR, "Success " + goodServer + " 9.0.2.10.in-addr.arpa."},
		{"udp", "stranger.", typeA, "Success " + goodServer + " stranger."},
	} {
		if got := b.says(x.network, x.name, x.typ); got != x.want {
			t.Errorf("%s over %s: %q, want %q", x.name, x.network, got, x.want)
		}
	}
	if got := far.heard(); got != "far. distant.front. FAR. far. 130.0.1.10.in-addr.arpa. nobody. stranger." {
		t.Errorf("the other host was asked for %s", got)
	}
	if got := silent.heard(); strings.Contains(got, "stranger.") || !strings.Contains(got, "nobody.") {
		t.Errorf("the silent host was asked for %s", got)
	}

	// With ndots a name without a dot goes to other hosts, and no further.
	bare := resolverOn(goodServer)
	bare.Bare = true
	if err := e.setResolver(id, bare); err != nil {
		t.Fatal(err)
	}
	if got := b.says("udp", "far.", typeA) + ", " + b.says("udp", "nobody.", typeA); got != "Success 10.1.0.130, Success" {
		t.Errorf("with ndots: %s", got)
	}

	// What we are asked.
	if got := far.ask(t, "127.77.0.2", here, 20*time.Second); got != "Success 10.1.0.2" {
		t.Errorf("another host asks: %q", got)
	}
	if got := far.ask(t, "127.77.0.9", here, 200*time.Millisecond); !strings.Contains(got, "i/o timeout") {
		t.Errorf("somebody else asks: %q", got)
	}
	m.Across = nil
	if err := e.client.SetNames(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if got := far.ask(t, "127.77.0.2", here, 20*time.Second); !strings.Contains(got, "refused") {
		t.Errorf("the network is of this host only: %q", got)
	}
}

// TestNamesAcrossKept says what a supervisor takes along when it replaces itself.
func TestNamesAcrossKept(t *testing.T) {
	free := newHost(t, "127.77.0.1", nil)
	free.c.Close()
	s := &Server{}
	s.names.networks = map[string]*network{}
	s.names.s = s
	var err error
	if s.poll, err = newPoller(); err != nil {
		t.Fatal(err)
	}
	defer s.poll.close()
	want := &wire.Across{Here: free.at, Peers: []netip.AddrPort{free.at}}
	s.names.set(&wire.SetNames{Network: "n", Name: "n", Across: want})
	state := s.names.state()
	if i := slices.IndexFunc(state, func(m wire.SetNames) bool { return m.Across != nil && m.Across.Here == free.at }); i < 0 {
		t.Errorf("an upgrade would forget %+v", state)
	}
	s.names.set(&wire.SetNames{Network: "n", Name: "n"})
	if len(s.names.networks) > 0 {
		t.Error("the network is not forgotten")
	}
}
