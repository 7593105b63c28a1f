package socket

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

var lo = netip.MustParseAddr("127.0.0.1")

// port returns a TCP port that was free a moment ago.
func port(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.AddrPortFrom(lo, l.Addr().(*net.TCPAddr).AddrPort().Port())
}

func TestReserve(t *testing.T) {
	for _, proto := range []string{"tcp", "udp"} {
		at := port(t)
		f, err := Reserve(proto, at)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Reserve(proto, at); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("%s twice: %v", proto, err)
		}
		if _, err := Reserve(proto, netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port())); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("%s on every address: %v", proto, err)
		}
		if proto == "tcp" {
			if l, err := net.Listen("tcp4", at.String()); err == nil { // sets SO_REUSEADDR
				l.Close()
				t.Error("a server can listen on a reserved port")
			}
			if c, err := net.Dial("tcp4", at.String()); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("a connection to a reserved port: %v, %v", c, err)
			}
		} else if c, err := net.ListenPacket("udp4", at.String()); err == nil {
			c.Close()
			t.Error("a server can receive on a reserved port")
		}
		f.Close()
		f, err = Reserve(proto, at)
		if err != nil {
			t.Fatalf("%s after it was given back: %v", proto, err)
		}
		f.Close()
	}
	if _, err := Reserve("tcp", netip.MustParseAddrPort("192.0.2.77:80")); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("an address of nobody: %v", err)
	}
}

// TestTimeWait takes the port of a server that has just ended.
func TestTimeWait(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().(*net.TCPAddr).AddrPort()
	go func() {
		c, err := l.Accept()
		if err == nil {
			c.Close() // the side that closes first keeps the port in TIME_WAIT
		}
		l.Close()
	}()
	c, err := net.Dial("tcp4", at.String())
	if err != nil {
		t.Fatal(err)
	}
	c.Read(make([]byte, 1))
	c.Close()
	for range 1000 { // until the listener is closed
		if _, err := net.Dial("tcp4", at.String()); err != nil {
			break
		}
	}
	f, err := Reserve("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Reserve("tcp", at); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("twice: %v", err)
	}
	if l, err := net.Listen("tcp4", at.String()); err == nil {
		l.Close()
		t.Error("a server can listen on a reserved port")
	}
}
