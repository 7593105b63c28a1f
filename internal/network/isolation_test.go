package network

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/need"
)

// overhear listens to all that reaches eth0 of a namespace, in promiscuous mode. The
// function that it returns says which TCP and UDP packets have come: payloads with
// their headers.
func overhear(t *testing.T, ns *os.File) func() [][]byte {
	t.Helper()
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8 // network byte order
	fd := -1
	err := netns.Do(ns, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all)
		if err != nil {
			return err
		}
		l, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		return errors.Join(
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Index}),
			unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: int32(l.Index), Type: unix.PACKET_MR_PROMISC}),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func() (got [][]byte) {
		buf := make([]byte, 1<<16)
		for {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				return got // EAGAIN
			}
			frame := buf[:n]
			if n > 34 && binary.BigEndian.Uint16(frame[12:]) == unix.ETH_P_IP && (frame[23] == unix.IPPROTO_TCP || frame[23] == unix.IPPROTO_UDP) {
				got = append(got, bytes.Clone(frame))
			}
		}
	}
}

// TestOverhear has a container that listens, with every privilege, to what others of
// its network say: it hears what is said to itself.
func TestOverhear(t *testing.T) { onBothBridges(t, testOverhear) }

func testOverhear(t *testing.T) {
	b := newBench(t, nil)
	b.create(network.CreateRequest{Name: "n", IPAM: subnet("10.61.0.0/24")})
	one, two := b.connect(Request{Name: "one", Network: "n"}), b.connect(Request{Name: "two", Network: "n"})
	listens := b.connect(Request{Name: "listens", Network: "n"})
	serve(t, two.NetNS, "tcp", ":80")
	serve(t, two.NetNS, "udp", ":53")
	serve(t, listens.NetNS, "tcp", ":80")
	heard := overhear(t, listens.NetNS)
	talk := func(to *box) {
		t.Helper()
		for range 5 {
			answers(t, "a neighbour", one.NetNS, "tcp", to.IPv4.Addr().String()+":80", one.IPv4.Addr().String())
		}
	}
	talk(two)
	answers(t, "a neighbour, UDP", one.NetNS, "udp", two.IPv4.Addr().String()+":53", one.IPv4.Addr().String())
	answers(t, "the host", nil, "tcp", two.IPv4.Addr().String()+":80", one.Gateway.String())
	for _, frame := range heard() {
		t.Errorf("what others say is heard: % x", frame[:34])
	}
	talk(listens)
	need.Eventually(t, "what is said to itself is heard", func() bool { return len(heard()) > 0 })
}

// TestIsolatedMode has networks in which the host has no address: its services are
// out of reach, also for a container with routes of its own.
func TestIsolatedMode(t *testing.T) {
	b := newBench(t, nil)
	b.create(network.CreateRequest{Name: "in", IPAM: subnet("10.66.0.0/24"), Internal: true, Options: map[string]string{optMode4: modeIsolated}})
	one, two, def := b.connect(Request{Name: "one", Network: "in"}), b.connect(Request{Name: "two", Network: "in"}), b.connect(Request{Name: "def"})
	serve(t, nil, "tcp", ":8099")
	serve(t, two.NetNS, "tcp", ":80")
	serve(t, def.NetNS, "tcp", ":80")
	gw := b.gateway().String()
	answers(t, "the host's service, from another network", def.NetNS, "tcp", gw+":8099", def.IPv4.Addr().String())
	answers(t, "a neighbour", one.NetNS, "tcp", two.IPv4.Addr().String()+":80", one.IPv4.Addr().String())
	unreachable := func(when string) {
		t.Helper()
		for _, to := range []string{machine.String() + ":8099", gw + ":8099", "10.66.0.1:8099", def.IPv4.Addr().String() + ":80"} {
			silent(t, when+": "+to, one.NetNS, "tcp", to)
		}
		silent(t, when+": from the host", nil, "tcp", two.IPv4.Addr().String()+":80")
	}
	unreachable("isolated")
	// Root in the container takes the bridge itself for a router.
	br := b.link(b.n.bridge("in").link)
	err := netns.Do(one.NetNS, func() error {
		c := dial(t)
		defer c.Close()
		l, err := c.Link(0, "eth0")
		if err != nil {
			return err
		}
		router := netip.MustParseAddr("10.66.0.1")
		var r netlink.Request
		r.SetNeighbour(l.Index, router, br.MAC)
		r.AddDefaultRoute(l.Index, router)
		return c.Do(&r)
	})
	if err != nil {
		t.Fatal(err)
	}
	unreachable("with a route of its own")
}
