package harness

import (
	"net"
	"testing"
)

// FreePort returns a TCP port of the loopback that nobody listens on. A test that
// stops or kills its daemon publishes such a one: a daemon reserves the ports of its
// containers only while it runs, and of those that engines choose by themselves each
// begins with the first.
func FreePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
