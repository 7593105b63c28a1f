package conntrack

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
	"lade/internal/need"
)

const (
	msgNew          = 0 // IPCTNL_MSG_CT_NEW
	ctaTimeout      = 7
	ctaIPv4Dst      = 2
	ctaProtoSrcPort = 2
)

// apart runs f in a network namespace of its own.
func apart(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

func tuple(r *netlink.Request, typ uint16, proto uint8, from, to netip.AddrPort) {
	t := r.Nest(typ | unix.NLA_F_NESTED)
	a := r.Nest(ctaTupleIP | unix.NLA_F_NESTED)
	r.Attr(ctaIPv4Src, from.Addr().AsSlice())
	r.Attr(ctaIPv4Dst, to.Addr().AsSlice())
	r.End(a)
	p := r.Nest(ctaTupleProto | unix.NLA_F_NESTED)
	r.Uint8(ctaProtoNum, proto)
	r.Attr(ctaProtoSrcPort, binary.BigEndian.AppendUint16(nil, from.Port()))
	r.Attr(ctaProtoDstPort, binary.BigEndian.AppendUint16(nil, to.Port()))
	r.End(p)
	r.End(t)
}

// add makes an entry of a connection to an address that is translated.
func add(t *testing.T, c *Conn, proto uint8, from, to, real string) {
	t.Helper()
	var r netlink.Request
	begin(&r, msgNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	client, server := netip.MustParseAddrPort(from), netip.MustParseAddrPort(real)
	tuple(&r, ctaTupleOrig, proto, client, netip.MustParseAddrPort(to))
	tuple(&r, ctaTupleReply, proto, server, client)
	r.Uint32BE(ctaTimeout, 600)
	if err := c.c.Do(&r); err != nil {
		t.Errorf("%s to %s: %v", from, to, err)
	}
}

// clients returns the ports of the clients of all entries, sorted.
func clients(t *testing.T, c *Conn) (ports []int) {
	t.Helper()
	var r netlink.Request
	begin(&r, msgGet, unix.NLM_F_DUMP)
	err := c.c.Dump(&r, func() { ports = nil }, func(m netlink.Message) {
		for typ, v := range netlink.Attrs(m.Data[headerLen:]) {
			if typ != ctaTupleOrig {
				continue
			}
			for typ, v := range netlink.Attrs(v) {
				if typ != ctaTupleProto {
					continue
				}
				for typ, v := range netlink.Attrs(v) {
					if typ == ctaProtoSrcPort {
						ports = append(ports, int(binary.BigEndian.Uint16(v)))
					}
				}
			}
		}
	})
	if err != nil {
		t.Error(err)
	}
	slices.Sort(ports)
	return ports
}

// TestForget makes entries by hand and removes some, both ways.
func TestForget(t *testing.T) {
	need.Root(t)
	ways := map[string]func(*Conn, selection) error{"by filter": (*Conn).forget, "one by one": (*Conn).forgetEach}
	for name, forget := range ways {
		t.Run(name, func(t *testing.T) {
			apart(t, func() {
				c, err := Dial()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				const udp, other = unix.IPPROTO_UDP, unix.IPPROTO_UDPLITE
				add(t, c, udp, "10.0.0.1:1", "10.0.0.9:53", "172.17.0.2:5353")
				add(t, c, udp, "10.0.0.1:2", "10.0.0.8:53", "172.17.0.2:5353")
				add(t, c, udp, "10.0.0.1:3", "10.0.0.9:54", "172.17.0.2:5353")
				add(t, c, udp, "10.0.0.1:4", "10.0.0.9:54", "172.17.0.3:5353")
				for i := range 500 { // more than one datagram of a dump
					add(t, c, udp, fmt.Sprintf("10.0.0.2:%d", 100+i), "10.0.0.9:55", "172.17.0.4:55")
				}
				for _, step := range []struct {
					which selection
					left  []int
				}{
					{to(udp, 55), []int{1, 2, 3, 4}},
					{to(other, 53), []int{1, 2, 3, 4}},
					{to(udp, 53), []int{3, 4}},
					{from(udp, netip.MustParseAddr("172.17.0.9")), []int{3, 4}},
					{from(udp, netip.MustParseAddr("172.17.0.2")), []int{4}},
				} {
					if err := forget(c, step.which); err != nil {
						t.Error(err)
					}
					if left := clients(t, c); !slices.Equal(left, step.left) {
						t.Errorf("left are %v, want %v", left, step.left)
					}
				}
			})
		})
	}
}
