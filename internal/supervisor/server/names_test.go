package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"lade/internal/dns"
	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/need"
	"lade/internal/supervisor"
	"lade/internal/supervisor/wire"
)

// sandbox is a network namespace as a container has it, with addresses for
// servers of the tests on its loopback interface.
type sandbox struct {
	t  testing.TB
	ns *os.File
}

const (
	goodServer   = "10.9.9.1"
	silentServer = "10.9.9.2"
	badServer    = "10.9.9.3"
	nobody       = "10.9.9.4" // has no server
)

func newSandbox(t testing.TB) *sandbox {
	t.Helper()
	need.Root(t)
	ns, err := netns.New(func(*os.File) error {
		c, err := netlink.Dial(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer c.Close()
		var r netlink.Request
		r.SetUp(1, "")
		for _, a := range []string{goodServer, silentServer, badServer, nobody} {
			r.AddAddr(1, netip.MustParsePrefix(a+"/32"))
		}
		return c.Do(&r)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return &sandbox{t, ns}
}

// dial connects from inside.
func (b *sandbox) dial(network, to string) net.Conn {
	b.t.Helper()
	var c net.Conn
	err := netns.Do(b.ns, func() (err error) {
		c, err = net.DialTimeout(network, to, 5*time.Second)
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		b.t.Fatal(err)
	}
	return c
}

func question(name string, typ dnsmessage.Type) []byte {
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: uint16(rand.Uint32()), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET}}}
	raw, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return raw
}

// exchange sends a question and returns what was said: the code and the answers.
func exchange(t testing.TB, c net.Conn, msg []byte) string {
	t.Helper()
	stream := c.RemoteAddr().Network() == "tcp"
	out := msg
	if stream {
		out = append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)
	}
	if _, err := c.Write(out); err != nil {
		t.Fatal(err)
	}
	return receive(t, c, msg)
}

func receive(t testing.TB, c net.Conn, msg []byte) string {
	t.Helper()
	in := make([]byte, 65535)
	var n int
	var err error
	if c.RemoteAddr().Network() == "tcp" {
		if _, err = io.ReadFull(c, in[:2]); err == nil {
			n, err = io.ReadFull(c, in[:binary.BigEndian.Uint16(in)])
		}
	} else {
		n, err = c.Read(in)
	}
	if err != nil {
		return err.Error()
	}
	var m dnsmessage.Message
	if err := m.Unpack(in[:n]); err != nil {
		t.Fatalf("%x: %v", in[:n], err)
	}
	if !m.Response || !bytes.Equal(in[:2], msg[:2]) {
		t.Errorf("header %+v", m.Header)
	}
	words := []string{strings.TrimPrefix(m.RCode.String(), "RCode")}
	if m.Truncated {
		words = append(words, "TC")
	}
	for _, a := range m.Answers {
		switch b := a.Body.(type) {
		case *dnsmessage.AResource:
			words = append(words, netip.AddrFrom4(b.A).String())
		case *dnsmessage.AAAAResource:
			words = append(words, netip.AddrFrom16(b.AAAA).String())
		case *dnsmessage.PTRResource:
			words = append(words, b.PTR.String())
		case *dnsmessage.TXTResource:
			words = append(words, b.TXT...)
		}
	}
	return strings.Join(words, " ")
}

func (b *sandbox) says(network, name string, typ dnsmessage.Type) string {
	b.t.Helper()
	c := b.dial(network, "127.0.0.11:53")
	defer c.Close()
	return exchange(b.t, c, question(name, typ))
}

// upstream is a server of the tests. It answers every question with a TXT that says
// which server and what was asked; "big." does not fit into a datagram.
func (b *sandbox) upstream(ns *os.File, ip string, code dnsmessage.RCode, silent bool) *atomic.Int64 {
	b.t.Helper()
	var count atomic.Int64
	var pc net.PacketConn
	var l net.Listener
	open := func() (err error) {
		if pc, err = net.ListenPacket("udp4", ip+":53"); err != nil {
			return err
		}
		l, err = net.Listen("tcp4", ip+":53")
		return err
	}
	var err error
	if ns != nil {
		err = netns.Do(ns, open)
	} else {
		err = open()
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { pc.Close() })
	answer := func(msg []byte, stream bool) []byte {
		count.Add(1)
		var m dnsmessage.Message
		if err := m.Unpack(msg); err != nil || silent {
			return nil
		}
		q := m.Questions[0]
		m.Response, m.RecursionAvailable, m.RCode = true, true, code
		m.Truncated = q.Name.String() == "big." && !stream
		if code == 0 && !m.Truncated {
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: &dnsmessage.TXTResource{TXT: []string{ip, q.Name.String()}}}}
		}
		raw, err := m.Pack()
		if err != nil {
			return nil
		}
		return raw
	}
	go func() {
		in := make([]byte, 65535)
		for {
			n, from, err := pc.ReadFrom(in)
			if err != nil {
				return
			}
			if out := answer(in[:n], false); out != nil && ip == goodServer {
				_, _ = pc.WriteTo([]byte("no message"), from)
				forged := bytes.Clone(out)
				forged[0] ^= 1 // another id
				_, _ = pc.WriteTo(forged, from)
				_, _ = pc.WriteTo(out, from)
			} else if out != nil {
				_, _ = pc.WriteTo(out, from)
			}
		}
	}()
	need.Serve(b.t, l, func(c net.Conn) {
		var head [2]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		in := make([]byte, binary.BigEndian.Uint16(head[:]))
		if _, err := io.ReadFull(c, in); err != nil {
			return
		}
		if out := answer(in, true); out != nil {
			_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...))
		}
	})
	return &count
}

// upstreamLate is a server that answers every second question, by refusing it, and
// tells of each.
func (b *sandbox) upstreamLate(ip string, asked chan<- []byte) {
	b.t.Helper()
	c := b.listen(ip)
	go func() {
		in := make([]byte, 65535)
		for i := 0; ; i++ {
			n, from, err := c.ReadFrom(in)
			if err != nil {
				return
			}
			if i%2 == 1 {
				_, _ = c.WriteTo(dns.Refused(nil, in[:n]), from)
			}
			asked <- bytes.Clone(in[:n])
		}
	}()
}

func (b *sandbox) listen(ip string) (c net.PacketConn) {
	b.t.Helper()
	err := netns.Do(b.ns, func() (err error) {
		c, err = net.ListenPacket("udp4", ip+":53")
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return c
}

func host(names string, addrs ...string) wire.Host {
	h := wire.Host{Names: strings.Fields(names)}
	for _, a := range addrs {
		h.Addresses = append(h.Addresses, netip.MustParseAddr(a))
	}
	return h
}

// names makes two networks known.
func (e *env) names() {
	e.t.Helper()
	for _, m := range []wire.SetNames{
		{Network: "n1", Name: "front", Hosts: []wire.Host{host("web 0123456789ab www", "10.1.0.2", "fd00:1::2"), host("pool1 pool", "10.1.0.3"), host("pool2 pool", "10.1.0.4")}},
		{Network: "n2", Name: "back", Hosts: []wire.Host{host("db", "10.2.0.2"), host("web", "10.2.0.3")}},
	} {
		if err := e.client.SetNames(e.t.Context(), &m); err != nil {
			e.t.Fatal(err)
		}
	}
}

func resolverOn(servers ...string) *wire.Resolver {
	return &wire.Resolver{Servers: servers, Networks: []wire.ResolverNetwork{{Network: "n1"}, {Network: "n2", Links: map[string]string{"Database": "db"}}}}
}

// named starts a process with a name server in a sandbox.
func (e *env) named(b *sandbox, r *wire.Resolver) (id string, s *supervisor.Started) {
	e.t.Helper()
	return e.start("exec sleep 1000", func(m *wire.Start) { m.NetNS, m.Resolver = 1, r }, b.ns)
}

func (e *env) kill(id string) {
	e.t.Helper()
	if err := e.client.Signal(e.t.Context(), &wire.Signal{ID: id, Signal: 9}); err != nil {
		e.t.Fatal(err)
	}
	e.events.exit(id, "")
}

func (e *env) setResolver(id string, r *wire.Resolver) error {
	return e.client.SetResolver(e.t.Context(), &wire.SetResolver{ID: id, Resolver: r})
}

const (
	typeA    = dnsmessage.TypeA
	typeAAAA = dnsmessage.TypeAAAA
	typeTXT  = dnsmessage.TypeTXT
	typePTR  = dnsmessage.TypePTR
)

func TestNames(t *testing.T) {
	b := newSandbox(t)
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	onHost := fmt.Sprintf("127.77.%d.53", os.Getpid()%250+1)
	e := inProcess(t, func(o *Options) { o.ResolvConf = resolv })
	e.names()
	b.upstream(b.ns, goodServer, 0, false)
	silent := b.upstream(b.ns, silentServer, 0, true)
	b.upstream(b.ns, badServer, dnsmessage.RCodeServerFailure, false)
	b.upstream(nil, onHost, 0, false)
	withServers := openFiles(t)
	id, s := e.named(b, resolverOn(goodServer))
	check := func(when string, want map[string]string) {
		t.Helper()
		for q, want := range want {
			f := strings.Fields(q)
			typ := map[string]dnsmessage.Type{"A": typeA, "AAAA": typeAAAA, "TXT": typeTXT, "PTR": typePTR}[f[1]]
			for _, network := range []string{"udp", "tcp"} {
				if got := b.says(network, f[0], typ); got != want {
					t.Errorf("%s: %s over %s: %q, want %q", when, q, network, got, want)
				}
			}
		}
	}
	known := map[string]string{
		"web. A": "Success 10.1.0.2", "WEB. AAAA": "Success fd00:1::2", "db. AAAA": "Success", "web.back. A": "Success 10.2.0.3", "0123456789ab. A": "Success 10.1.0.2",
		"database. A": "Success 10.2.0.2", "2.0.1.10.in-addr.arpa. PTR": "Success web.front.",
	}
	check("at first", known)
	check("outside", map[string]string{"example.com. TXT": "Success " + goodServer + " example.com.", "unknown. A": "Success " + goodServer + " unknown."})

	if err := e.client.SetNames(t.Context(), &wire.SetNames{Network: "n2", Name: "back", Hosts: []wire.Host{host("cache", "10.2.0.9")}}); err != nil {
		t.Fatal(err)
	}
	check("other names", map[string]string{"cache. A": "Success 10.2.0.9", "web. A": "Success 10.1.0.2", "db. A": "Success " + goodServer + " db."})
	if err := e.setResolver(id, &wire.Resolver{Networks: []wire.ResolverNetwork{{Network: "n2"}}}); err != nil {
		t.Fatal(err)
	}
	check("another network, nobody to ask", map[string]string{"cache. A": "Success 10.2.0.9", "web. A": "ServerFailure", "example.com. TXT": "ServerFailure"})

	// Truncated over UDP, whole over TCP.
	if err := e.setResolver(id, resolverOn(goodServer)); err != nil {
		t.Fatal(err)
	}
	if udp, tcp := b.says("udp", "big.", typeTXT), b.says("tcp", "big.", typeTXT); udp != "Success TC" || tcp != "Success "+goodServer+" big." {
		t.Errorf("a big answer: %q and %q", udp, tcp)
	}
	// A server that is dead, that cannot, and that is silent: the next one answers.
	for _, first := range []string{nobody, badServer, silentServer} {
		if err := e.setResolver(id, resolverOn(first, goodServer)); err != nil {
			t.Fatal(err)
		}
		check("after "+first, map[string]string{"x.org. TXT": "Success " + goodServer + " x.org."})
	}
	if silent.Load() != 2 {
		t.Errorf("the silent server was asked %d times", silent.Load())
	}
	for _, only := range []string{nobody, badServer} {
		if err := e.setResolver(id, resolverOn(only)); err != nil {
			t.Fatal(err)
		}
		check("only "+only, map[string]string{"x.org. TXT": "ServerFailure"})
	}
	if err := e.setResolver(id, resolverOn("127.0.0.11")); err != nil { // itself
		t.Fatal(err)
	}
	check("itself", map[string]string{"x.org. TXT": "ServerFailure"})

	// The host's servers, from its namespace, as its file says now.
	r := resolverOn()
	r.Host = true
	if err := e.setResolver(id, r); err != nil {
		t.Fatal(err)
	}
	check("no file", map[string]string{"x.org. TXT": "ServerFailure"})
	if err := os.WriteFile(resolv, []byte("nameserver "+onHost+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check("the host's", map[string]string{"x.org. TXT": "Success " + onHost + " x.org."})

	if err := e.setResolver(id, resolverOn("not an address")); !errors.Is(err, errdefs.Invalid) {
		t.Errorf("bad server: %v", err)
	}
	check("after an error", map[string]string{"x.org. TXT": "Success " + onHost + " x.org."})
	if err := e.setResolver("other", resolverOn()); !errors.Is(err, errdefs.NotFound) {
		t.Errorf("no container: %v", err)
	}

	e.kill(id)
	s.Close()
	need.Eventually(t, "its descriptors are closed", func() bool { return openFiles(t) <= withServers })
}

// TestNamesOfTheContainer lets a container bind port 53 on every address, and has
// a process that lives in the host's namespace.
func TestNamesOfTheContainer(t *testing.T) {
	b := newSandbox(t)
	e := inProcess(t, nil)
	e.names()
	e.named(b, resolverOn())
	b.upstream(b.ns, "0.0.0.0", 0, false)
	c := b.dial("udp", "127.0.0.1:53")
	if got := exchange(t, c, question("x.", typeTXT)); got != "Success 0.0.0.0 x." {
		t.Errorf("the container's own server: %q", got)
	}
	for _, network := range []string{"udp", "tcp"} {
		if got := b.says(network, "web.", typeA); got != "Success 10.1.0.2" {
			t.Errorf("ours over %s: %q", network, got)
		}
	}
	id, _ := e.start("exec sleep 1000", nil)
	if err := e.setResolver(id, resolverOn()); !errors.Is(err, errdefs.Internal) {
		t.Errorf("in the host's namespace: %v", err)
	}
	m := e.message("true")
	m.Resolver = resolverOn()
	if _, err := e.client.Start(t.Context(), m); !errors.Is(err, errdefs.Invalid) {
		t.Errorf("without a namespace: %v", err)
	}
}

// TestNamesBehindAFirewall has a container that tracks connections and lets out
// only what it asked port 53, and the answers to it.
func TestNamesBehindAFirewall(t *testing.T) {
	nft := need.Program(t, "nft", "Debian's nftables")
	nsenter := need.Program(t, "nsenter", "Debian's util-linux")
	b := newSandbox(t)
	cmd := exec.CommandContext(t.Context(), nsenter, "--net=/proc/self/fd/3", nft, "-f", "-")
	cmd.ExtraFiles = []*os.File{b.ns}
	cmd.Stdin = strings.NewReader(`table inet strict {
		chain output {
			type filter hook output priority filter; policy drop
			ct state established accept
			meta l4proto { tcp, udp } th dport 53 accept
		}
		chain input {
			type filter hook input priority filter
			ct state invalid drop
		}
	}`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	e := inProcess(t, nil)
	e.names()
	b.upstream(b.ns, goodServer, 0, false)
	e.named(b, resolverOn(goodServer))
	for _, network := range []string{"udp", "tcp"} {
		if a, txt := b.says(network, "web.", typeA), b.says(network, "x.", typeTXT); a != "Success 10.1.0.2" || txt != "Success "+goodServer+" x." {
			t.Errorf("over %s: %q, %q", network, a, txt)
		}
	}
}

// TestNamesByOthers asks with the tools that users have.
func TestNamesByOthers(t *testing.T) {
	dig := need.Program(t, "dig", "Debian's bind9-dnsutils")
	nsenter := need.Program(t, "nsenter", "Debian's util-linux")
	b := newSandbox(t)
	e := inProcess(t, nil)
	e.names()
	b.upstream(b.ns, goodServer, 0, false)
	e.named(b, resolverOn(goodServer))
	for _, tc := range []struct{ args, want string }{
		{"web A +short", "10.1.0.2\n"},
		{"web AAAA +short", "fd00:1::2\n"},
		{"web A +short +tcp", "10.1.0.2\n"},
		{"web A +short +noedns", "10.1.0.2\n"},
		{"web A +short +dnssec +bufsize=4096", "10.1.0.2\n"},
		{"-x 10.1.0.2 +short", "web.front.\n"},
		{"-x fd00:1::2 +short", "web.front.\n"},
		{"-x 10.2.0.2 +short +tcp", "db.back.\n"},
		{"example.com TXT +short +dnssec +nsid", `"` + goodServer + `" "example.com."` + "\n"},
	} {
		cmd := exec.CommandContext(t.Context(), nsenter, append([]string{"--net=/proc/self/fd/3", dig, "+tries=1", "@127.0.0.11"}, strings.Fields(tc.args)...)...)
		cmd.ExtraFiles = []*os.File{b.ns}
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != tc.want {
			t.Errorf("dig %s: %q, %v; want %q", tc.args, out, err, tc.want)
		}
	}
}

// TestNamesFlood sends what no resolver sends, and more than servers answer.
func TestNamesFlood(t *testing.T) {
	b := newSandbox(t)
	e := inProcess(t, nil)
	e.names()
	b.upstream(b.ns, silentServer, 0, true)
	id, _ := e.named(b, resolverOn(silentServer))
	if got := exchange(t, b.dial("udp", "127.0.0.11:53"), append(question("web.", typeA), make([]byte, maxQuestion)...)); got != "Refused" {
		t.Errorf("a long question: %q", got)
	}
	c := b.dial("udp", "127.0.0.11:53")
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		msg := question("web.", typeA)
		for range 1 + r.IntN(4) {
			msg[r.IntN(len(msg))] = byte(r.Uint32())
		}
		if _, err := c.Write(msg[:r.IntN(len(msg)+1)]); err != nil {
			t.Fatal(err)
		}
	}
	tcp := b.dial("tcp", "127.0.0.11:53")
	if _, err := tcp.Write(bytes.Repeat([]byte{0, 3, 'b', 'a', 'd'}, 100)); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, tcp, make([]byte, 2)); !strings.Contains(got, "EOF") && !strings.Contains(got, "reset") {
		t.Errorf("nonsense over TCP: %q", got)
	}
	c.Close()
	// More than may be under way: the rest is refused, and what is known is answered.
	c = b.dial("udp", "127.0.0.11:53")
	msg := question("outside.org.", typeTXT)
	for i := range maxAsks + 50 {
		if i%32 == 0 { // what a socket takes
			b.says("udp", "web.", typeA)
		}
		if _, err := c.Write(msg); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.SetReadDeadline(time.Now().Add(need.Patience(20 * time.Second))); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for refused < 50 && receive(t, c, msg) == "Refused" {
		refused++
	}
	if refused != 50 {
		t.Errorf("%d of %d are refused", refused, maxAsks+50)
	}
	for _, network := range []string{"udp", "tcp"} {
		if got := b.says(network, "web.", typeA); got != "Success 10.1.0.2" {
			t.Errorf("in the flood: %q over %s", got, network)
		}
	}
	var idle []net.Conn
	for range 2 * maxClients { // those that say nothing
		idle = append(idle, b.dial("tcp", "127.0.0.11:53"))
	}
	if got := b.says("udp", "web.", typeA); got != "Success 10.1.0.2" {
		t.Errorf("with %d idle clients: %q", len(idle), got)
	}
	e.kill(id) // with everything under way
}

// TestNamesUpgrade replaces the supervisor's program, and then loses it.
func TestNamesUpgrade(t *testing.T) {
	b := newSandbox(t)
	e := ownProcess(t, "plain")
	e.names()
	b.upstream(b.ns, goodServer, 0, false)
	script := fmt.Sprintf("exec nsenter --net=/proc/%d/fd/%d sleep 1000", os.Getpid(), b.ns.Fd())
	id, s := e.start(script, func(m *wire.Start) { m.NetNS, m.Resolver = 1, resolverOn(goodServer) }, b.ns)
	check := func(when string) {
		t.Helper()
		for _, network := range []string{"udp", "tcp"} {
			if a, ptr, txt := b.says(network, "database.", typeA), b.says(network, "3.0.1.10.in-addr.arpa.", typePTR), b.says(network, "x.", typeTXT); a != "Success 10.2.0.2" || ptr != "Success pool1.front." || txt != "Success "+goodServer+" x." {
				t.Errorf("%s, over %s: %q, %q, %q", when, network, a, ptr, txt)
			}
		}
	}
	check("at first")
	late := make(chan []byte)
	b.upstreamLate(silentServer, late)
	if err := e.setResolver(id, resolverOn(silentServer)); err != nil {
		t.Fatal(err)
	}
	asking := b.dial("udp", "127.0.0.11:53")
	msg := question("late.", typeTXT)
	if _, err := asking.Write(msg); err != nil {
		t.Fatal(err)
	}
	<-late // it is under way
	if err := e.client.Upgrade(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	<-late // again, by the new program
	if got := receive(t, asking, msg); got != "Refused" {
		t.Errorf("a question of before the upgrade: %q", got)
	}
	e.connect(supervisor.Options{})
	if err := e.setResolver(id, resolverOn(goodServer)); err != nil {
		t.Fatal(err)
	}
	e.client.Close()
	check("after the upgrade, without a daemon")
	e.connect(supervisor.Options{})
	if e.hello.Build != "upgraded" {
		t.Fatalf("build %q", e.hello.Build)
	}
	if err := unix.Kill(e.hello.Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	e.events.until("the loss", func() bool { return e.events.lost != nil })
	e.client.Close()
	e.connect(supervisor.Options{Binary: "/proc/self/exe"})
	adopted, err := e.client.Adopt(t.Context(), &wire.Adopt{ID: id, Pid: s.Pid, Pidfd: 1, StartedAt: s.StartedAt}, s.Pidfd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(adopted.Close)
	e.names()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	failed := make(chan error, 8) // several at a time: one makes the sockets
	for range cap(failed) {
		go func() {
			failed <- e.client.SetResolver(ctx, &wire.SetResolver{ID: id, Resolver: resolverOn(goodServer)})
		}()
	}
	for range cap(failed) {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	check("after the loss")
	if err := e.setResolver(id, nil); err != nil {
		t.Fatal(err)
	}
	if got := b.says("udp", "web.", typeA); !strings.Contains(got, "refused") {
		t.Errorf("taken away: %q", got)
	}
	e.kill(id)
}

// BenchmarkNames asks for a known name, one question after the other, and
// BenchmarkEcho is how long as many bytes take to a server that does nothing.
func BenchmarkNames(b *testing.B) {
	box := newSandbox(b)
	e := inProcess(b, nil)
	e.names()
	e.named(box, resolverOn())
	c := box.dial("udp", "127.0.0.11:53")
	if err := c.SetDeadline(time.Time{}); err != nil {
		b.Fatal(err)
	}
	msg, in := question("web.", typeA), make([]byte, 512)
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		if _, err := c.Write(msg); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(in); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "median-ns")
}

// BenchmarkNamesListen makes the sockets of a name server in a fresh namespace:
// what a start costs more.
func BenchmarkNamesListen(b *testing.B) {
	e := inProcess(b, nil)
	var took []time.Duration
	for b.Loop() {
		box := newSandbox(b)
		r, err := e.s.newResolver("x", resolverOn())
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if err := inside(int(box.ns.Fd()), r.listen); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
		r.unbind()
		box.ns.Close()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "median-us")
}
