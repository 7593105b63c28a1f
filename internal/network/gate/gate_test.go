package gate

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/iprange"
	"lade/internal/linux/service"
	"lade/internal/linux/socket"
	"lade/internal/need"
)

// patience is how long an answer may take.
func patience() time.Time { return time.Now().Add(need.Patience(30 * time.Second)) }

// asGate is the variable of the environment that makes the test a gate of the build
// it holds.
const asGate = "LADE_TEST_GATE"

func TestMain(m *testing.M) {
	if build := os.Getenv(asGate); build != "" {
		s, err := Listen(os.Args[len(os.Args)-1], build, slices.Contains(os.Args, "--next"), slog.New(slog.DiscardHandler))
		if err != nil || service.Detach(os.DevNull) != nil {
			os.Exit(1)
		}
		s.Run(context.Background())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serve runs a gate until the test ends. Clients on the loopback interface are not
// kept, so none of this needs a privilege.
func serve(t *testing.T, root, build string) (ended chan struct{}) {
	t.Helper()
	_, ended = run(t, root, build, false)
	return ended
}

// run runs a gate, or the next one, until the test ends. One that ends has no
// client any more: they would be reset with its process.
func run(t *testing.T, root, build string, next bool) (*Server, chan struct{}) {
	t.Helper()
	s, err := Listen(root, build, next, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		s.Run(t.Context())
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.conns != 0 && t.Context().Err() == nil {
			t.Errorf("a gate ended with %d clients", s.conns)
		}
		close(ended)
	}()
	return s, ended
}

func client(t *testing.T, root, build string) (*Client, map[Key]*os.File) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c, found, err := Connect(Options{Root: root, Binary: exe, Env: []string{asGate + "=" + build}, Build: build, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	return c, found
}

// freePort returns a port that is free on the loopback interface, and its socket.
func freePort(t *testing.T, proto string, to netip.AddrPort) (Port, *os.File) {
	t.Helper()
	f, err := socket.Listen(proto, netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	var sa unix.Sockaddr
	raw, err := f.SyscallConn()
	if err == nil {
		err = errors.Join(raw.Control(func(fd uintptr) { sa, err = unix.Getsockname(int(fd)) }), err)
	}
	if err != nil {
		t.Fatal(err)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(sa.(*unix.SockaddrInet4).Port))
	return Port{Proto: proto, Host: at, To: to}, f
}

// backend serves TCP: it reads to the end and then says how much it was.
func backend(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	need.Serve(t, l, func(c net.Conn) {
		said, _ := io.ReadAll(c)
		io.WriteString(c, strings.ToUpper(string(said)))
	})
	return addrPort(l.Addr())
}

// say sends a text and returns the answer.
func say(t *testing.T, at netip.AddrPort, text string) (string, error) {
	t.Helper()
	c, err := net.Dial("tcp4", at.String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(patience())
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	got, err := io.ReadAll(c)
	return string(got), err
}

func TestServe(t *testing.T) {
	root := t.TempDir()
	ended := serve(t, root, "one")
	c, found := client(t, root, "one")
	if len(found) != 0 {
		t.Errorf("found %v", found)
	}
	p, f := freePort(t, "tcp", backend(t))
	if err := c.Open(p, f); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(root, "two", false, slog.New(slog.DiscardHandler)); !errors.Is(err, errdefs.Conflict) {
		t.Errorf("a second gate: %v", err)
	}
	long := strings.Repeat("how do you do? ", 100_000)
	for _, text := range []string{"", "hello", long} { // the end of one direction is no end of the other
		if got, err := say(t, p.Host, text); err != nil || got != strings.ToUpper(text) {
			t.Errorf("%.20q: %.20q of %d, %v", text, got, len(got), err)
		}
	}
	lost, _ := freePort(t, "tcp", netip.AddrPort{})
	p.To = lost.Host // bound, and served by nobody
	p.To = netip.AddrPortFrom(p.To.Addr(), 1)
	if err := c.Open(p, f); err != nil {
		t.Fatal(err)
	}
	if _, err := say(t, p.Host, "hello"); err == nil {
		t.Error("an answer of nobody")
	}
	p.To, p.From = backend(t), []iprange.Range{iprange.Of(netip.MustParsePrefix("192.0.2.0/24"))}
	if err := c.Open(p, f); err != nil {
		t.Fatal(err)
	}
	if got, err := say(t, p.Host, "hello"); err == nil {
		t.Errorf("an answer to somebody else: %q", got)
	}
	p.From = append(p.From, iprange.Of(netip.MustParsePrefix("127.0.0.0/8")))
	if err := c.Open(p, f); err != nil {
		t.Fatal(err)
	}
	if got, err := say(t, p.Host, "hello"); err != nil || got != "HELLO" {
		t.Errorf("%q, %v", got, err)
	}

	// A connection survives the port, unless it is aborted.
	kept, err := net.Dial("tcp4", p.Host.String())
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	kept.SetDeadline(patience())
	io.WriteString(kept, "x")
	if got, err := say(t, p.Host, "hello"); err != nil || got != "HELLO" { // the gate has accepted the other one
		t.Errorf("%q, %v", got, err)
	}
	if err := errors.Join(c.Close(p.Key(), false), c.Close(p.Key(), false), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := say(t, p.Host, "hello"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a port that was closed: %v", err)
	}
	kept.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(kept); err != nil || string(got) != "X" {
		t.Errorf("a connection after its port: %q, %v", got, err)
	}
	if err := c.Shut(); err != nil {
		t.Error(err)
	}
	<-ended
}

func TestDatagrams(t *testing.T) {
	root := t.TempDir()
	ended := serve(t, root, "one")
	c, _ := client(t, root, "one")
	echo, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		buf := make([]byte, maxDatagram)
		for {
			n, from, err := echo.ReadFrom(buf)
			if err != nil {
				return
			}
			echo.WriteTo(buf[:n], from)
		}
	}()
	p, f := freePort(t, "udp", addrPort(echo.LocalAddr()))
	if err := c.Open(p, f); err != nil {
		t.Fatal(err)
	}
	for range 2 { // two clients
		u, err := net.Dial("udp4", p.Host.String()) // hears nobody but the port
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		u.SetDeadline(patience())
		for _, text := range []string{"one", strings.Repeat("x", 60_000), "three"} {
			buf := make([]byte, maxDatagram)
			if _, err := io.WriteString(u, text); err != nil {
				t.Fatal(err)
			}
			if n, err := u.Read(buf); err != nil || string(buf[:n]) != text {
				t.Errorf("%d bytes, %v", n, err)
			}
		}
	}
	if err := c.Close(p.Key(), true); err != nil {
		t.Error(err)
	}
	if err := c.Shut(); err != nil {
		t.Error(err)
	}
	<-ended
}

// TestHandOver has a daemon that comes back, and one of another build.
func TestHandOver(t *testing.T) {
	root := t.TempDir()
	ended := serve(t, root, "one")
	c, _ := client(t, root, "one")
	p, f := freePort(t, "tcp", backend(t))
	if err := c.Open(p, f); err != nil {
		t.Fatal(err)
	}
	f.Close() // as when the daemon is killed
	if err := c.Shut(); err != nil {
		t.Error(err)
	}
	if got, err := say(t, p.Host, "hello"); err != nil || got != "HELLO" {
		t.Errorf("without a daemon: %q, %v", got, err)
	}
	c, found := client(t, root, "one")
	if len(found) != 1 || found[p.Key()] == nil {
		t.Fatalf("found %v", found)
	}
	found[p.Key()].Close()
	if err := c.Shut(); err != nil {
		t.Error(err)
	}
	c, found = client(t, root, "two")
	<-ended // it had no connection
	if _, err := os.Stat(filepath.Join(root, nextName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket of the next one: %v", err)
	}
	n := speak(t, root, socketName)
	if m, err := n.ask(message{Op: opHello}, nil); err != nil || m.Build != "two" {
		t.Errorf("%+v serves: %v", m, err)
	}
	n.sock.Close()
	if got, err := say(t, p.Host, "hello"); err != nil || got != "HELLO" {
		t.Errorf("with the other one: %q, %v", got, err)
	}
	if err := errors.Join(c.Close(p.Key(), true), c.Shut(), found[p.Key()].Close()); err != nil {
		t.Error(err)
	}
}

// TestHandOverFails has a gate of another build, and ours does not start: the old
// one goes on.
func TestHandOverFails(t *testing.T) {
	root := t.TempDir()
	serve(t, root, "one")
	c, _ := client(t, root, "one")
	p, f := freePort(t, "tcp", backend(t))
	if err := errors.Join(c.Open(p, f), c.Shut()); err != nil {
		t.Fatal(err)
	}
	c, found, err := Connect(Options{Root: root, Binary: "/nowhere/lade-gate", Build: "two", Logger: slog.New(slog.DiscardHandler)})
	if err != nil || len(found) != 1 {
		t.Fatalf("found %v, %v", found, err)
	}
	if got, err := say(t, p.Host, "hello"); err != nil || got != "HELLO" {
		t.Errorf("%q, %v", got, err)
	}
	p.To = backend(t)
	if err := errors.Join(c.Open(p, found[p.Key()]), c.Close(p.Key(), true), c.Shut(), found[p.Key()].Close()); err != nil {
		t.Error(err)
	}
}

// speak connects to a gate as a daemon does that looks after nothing.
func speak(t *testing.T, root, name string) *connection {
	t.Helper()
	sock, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: filepath.Join(root, name), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	n := &connection{sock: sock, answers: make(chan answer)}
	go n.receive()
	return n
}

// TestHandOverKilled has a daemon that goes at each step of putting one gate in the
// place of another: the port is served by one of them, and the next daemon has it.
func TestHandOverKilled(t *testing.T) {
	for _, tc := range []struct {
		what    string
		retire  bool
		survive string
	}{
		{"before Retire", false, "one"},
		{"after Retire", true, "two"},
	} {
		root := t.TempDir()
		_, first := run(t, root, "one", false)
		_, second := run(t, root, "two", true)
		old, next := speak(t, root, socketName), speak(t, root, nextName)
		p, f := freePort(t, "tcp", backend(t))
		for _, n := range []*connection{old, next} {
			if _, err := n.ask(message{Op: opOpen, Port: &p}, f); err != nil {
				t.Fatal(err)
			}
		}
		ended := second
		if tc.retire {
			ended = first
			if _, err := old.ask(message{Op: opRetire}, nil); err != nil {
				t.Fatal(err)
			}
		}
		f.Close()
		old.sock.Close()
		next.sock.Close()
		<-ended
		if got, err := say(t, p.Host, "hello"); err != nil || got != "HELLO" {
			t.Errorf("%s: %q, %v", tc.what, got, err)
		}
		c, found := client(t, root, tc.survive)
		if len(found) != 1 {
			t.Fatalf("%s: found %v", tc.what, found)
		}
		if got, err := say(t, p.Host, "hello"); err != nil || got != "HELLO" {
			t.Errorf("%s, with the next daemon: %q, %v", tc.what, got, err)
		}
		if err := errors.Join(c.Close(p.Key(), true), c.Shut(), found[p.Key()].Close()); err != nil {
			t.Errorf("%s: %v", tc.what, err)
		}
	}
}

// TestHandOverBusy puts one gate after another in its place while clients connect:
// all of them are served, by whichever has accepted them.
func TestHandOverBusy(t *testing.T) {
	root := t.TempDir()
	_, ended := run(t, root, "first", false)
	daemon := speak(t, root, socketName)
	p, f := freePort(t, "tcp", backend(t))
	if _, err := daemon.ask(message{Op: opOpen, Port: &p}, f); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if got, err := say(t, p.Host, "hello"); err != nil || got != "HELLO" {
					t.Errorf("%q, %v", got, err)
				}
			}
		})
	}
	for i := range 100 {
		_, next := run(t, root, strconv.Itoa(i), true)
		n := speak(t, root, nextName)
		for _, step := range []struct {
			n *connection
			m message
			f *os.File
		}{{n, message{Op: opOpen, Port: &p}, f}, {daemon, message{Op: opRetire}, nil}, {n, message{Op: opTake}, nil}} {
			if _, err := step.n.ask(step.m, step.f); err != nil {
				t.Fatal(err)
			}
		}
		daemon.sock.Close()
		<-ended
		daemon, ended = n, next
	}
	stop()
	wg.Wait()
	daemon.sock.Close()
}

// TestBadRequests has messages that make no sense: each is answered, and changes
// nothing.
func TestBadRequests(t *testing.T) {
	root := t.TempDir()
	serve(t, root, "one")
	u, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: filepath.Join(root, socketName), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	u.SetDeadline(patience())
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	buf := make([]byte, maxMessage)
	for _, tc := range []struct {
		m    message
		f    *os.File
		want string
	}{
		{message{Op: "x"}, nil, `unknown request "x"`},
		{message{Op: opOpen}, nil, `unknown request "open"`},
		{message{Op: opOpen, Port: &Port{Proto: "tcp"}}, nil, "no port"},
		{message{Op: opOpen, Port: &Port{Proto: "sctp"}}, file, `protocol "sctp"`},
		{message{Op: opOpen, Port: &Port{Proto: "tcp"}}, file, "socket operation on non-socket"},
		{message{Op: opOpen, Port: &Port{Proto: "udp"}}, file, "socket operation on non-socket"},
		{message{Op: opClose, Port: &Port{Proto: "tcp"}}, nil, ""},
	} {
		if err := send(u, tc.m, tc.f); err != nil {
			t.Fatal(err)
		}
		m, _, err := receive(u, buf)
		if err != nil || !strings.Contains(m.Error, tc.want) || (tc.want == "") != (m.Error == "") {
			t.Errorf("%+v: %+v, %v; want %q", tc.m, m, err, tc.want)
		}
	}
	if _, err := u.Write([]byte("{")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := receive(u, buf); !errors.Is(err, io.EOF) { // who cannot speak is not listened to
		t.Errorf("after nonsense: %v", err)
	}
}
