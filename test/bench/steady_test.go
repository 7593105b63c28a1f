package bench

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
)

// kernelGrowth measures what the kernel alone takes more for the network of the
// last hundred of n containers than for that of the first: a namespace, a veth
// pair and a port of a bridge, made by hand. A bridge looks at each of its ports
// when one is added (br_port_state_selection). The processor time is this thread's.
func kernelGrowth(t *testing.T, n int) (first, last spent) {
	t.Helper()
	const bridge = "lsteady"
	rt, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	var r netlink.Request
	r.AddBridge(bridge, net.HardwareAddr{2, 0x42, 198, 19, 252, 1}, 1500)
	r.SetUp(0, bridge)
	if err := rt.Do(&r); err != nil {
		t.Fatal(err)
	}
	link, err := rt.Link(0, bridge)
	if err != nil {
		t.Fatal(err)
	}
	var made []*os.File
	defer func() {
		for _, ns := range made { // the kernel removes the pairs
			ns.Close()
		}
		r.Reset()
		r.DelLink(link.Index)
		if err := rt.Do(&r); err != nil {
			t.Error(err)
		}
	}()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	thread, err := netns.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer thread.Unlock()
	for part := range n / 100 {
		begin, used := time.Now(), threadTime(t)
		for i := range 100 {
			name := fmt.Sprint("lst", part*100+i)
			ns, err := thread.New(func(ns *os.File) error { return port(rt, ns, name, link.Index) })
			if err != nil {
				t.Fatal(err)
			}
			made = append(made, ns)
		}
		last = spent{wall: time.Since(begin), processor: threadTime(t) - used}
		if part == 0 {
			first = last
		}
	}
	return first, last
}

// port connects the namespace of the calling thread with a bridge, by a pair that
// has no address.
func port(rt *netlink.Conn, ns *os.File, name string, bridge int) error {
	var r netlink.Request
	r.AddVeth(netlink.Veth{Name: name, MTU: 1500, Peer: "eth0", PeerNS: ns, NoIPv6: true})
	if err := rt.Do(&r); err != nil {
		return err
	}
	in, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer in.Close()
	r.Reset()
	r.SetUp(1, "")
	r.SetUp(0, "eth0")
	if err := in.Do(&r); err != nil {
		return err
	}
	r.Reset()
	r.AddPort(0, name, bridge)
	r.SetUp(0, name)
	return rt.Do(&r)
}
