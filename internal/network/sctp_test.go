package network

import (
	"encoding/binary"
	"hash/crc32"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"lade/internal/need"
)

// initChunk is an SCTP packet that begins an association: RFC 9260, sections 3.1 and
// 3.3.2. The kernel of a test need not know the protocol.
func initChunk(from, to uint16) []byte {
	p := make([]byte, 12, 32)
	binary.BigEndian.PutUint16(p, from)
	binary.BigEndian.PutUint16(p[2:], to)
	p = append(p, 1, 0, 0, 20) // INIT, its length
	p = append(p, 0, 0, 0, 7)  // initiate tag
	p = append(p, 0, 1, 0, 0)  // window
	p = append(p, 0, 1, 0, 1)  // streams
	p = append(p, 0, 0, 0, 9)  // initial number
	sum := crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(p[8:], sum)
	return p
}

// TestSCTP sends packets of associations to a published port, and looks at what
// arrives in the container.
func TestSCTP(t *testing.T) {
	b := newBench(t, nil)
	one := b.connect(Request{Name: "one", Ports: []Publish{
		{Proto: "sctp", Port: 80, HostPort: 8080}, {Proto: "sctp", Port: 81, HostPort: 8081, From: ranges(t, "192.0.2.0/24")},
		{Proto: "sctp", Port: 82, HostPort: 8082, From: ranges(t, outside.String())},
	}})
	raw := func(ns *os.File) (c *net.IPConn) {
		t.Helper()
		if err := in(ns, func() (err error) {
			c, err = net.ListenIP("ip4:132", &net.IPAddr{IP: net.IPv4zero})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	inside, other := raw(one.NetNS), raw(b.other)
	send := func(from, to uint16) {
		t.Helper()
		if _, err := other.WriteTo(initChunk(from, to), &net.IPAddr{IP: machine.AsSlice()}); err != nil {
			t.Fatal(err)
		}
	}
	// What is not let through would arrive before what is sent after it.
	send(5001, 8081)
	for port, want := range map[uint16]uint16{8080: 80, 8082: 82} {
		send(5000, port)
		inside.SetReadDeadline(time.Now().Add(need.Patience(30 * time.Second)))
		buf := make([]byte, 200)
		n, from, err := inside.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		source, _ := netip.AddrFromSlice(from.(*net.IPAddr).IP)
		if n < 12 || source.Unmap() != outside || binary.BigEndian.Uint16(buf) != 5000 || binary.BigEndian.Uint16(buf[2:]) != want {
			t.Errorf("port %d: from %s: % x", port, source, buf[:n])
		}
	}
	if _, err := b.n.Connect(t.Context(), Request{ContainerID: "x", Name: "x", Ports: []Publish{{Proto: "sctp", Port: 80, HostPort: 8080}}}); err == nil {
		t.Error("the port was given away")
	}
}
