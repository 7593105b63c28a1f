package netlink

import (
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestChild reads requests for children as the kernel does, also for kinds that
// this one may not have.
func TestChild(t *testing.T) {
	u16 := func(v uint16) []byte { return binary.NativeEndian.AppendUint16(nil, v) }
	u32 := func(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
	c := Child{Name: "eth0", Parent: 7, MTU: 1400, Group: 9}
	for _, x := range []struct {
		kind string
		add  func(*Request)
		data map[uint16][]byte
	}{
		{"ipvlan", func(r *Request) { r.AddIPVLAN(c, IPVLANL3S, IPVLANPrivate) }, map[uint16][]byte{iflaIPVLANMode: u16(2), iflaIPVLANFlags: u16(1)}},
		{"ipvlan", func(r *Request) { r.AddIPVLAN(c, IPVLANL2, IPVLANVEPA) }, map[uint16][]byte{iflaIPVLANMode: u16(0), iflaIPVLANFlags: u16(2)}},
		{"macvlan", func(r *Request) { r.AddMacvlan(c, MacvlanPassthru) }, map[uint16][]byte{iflaMacvlanMode: u32(8)}},
		{"vlan", func(r *Request) { r.AddVLAN(c, 50) }, map[uint16][]byte{iflaVLANID: u16(50)}},
	} {
		var r Request
		x.add(&r)
		r.close()
		attrs := map[uint16][]byte{}
		for m := range messages(r.Bytes()) {
			for typ, v := range Attrs(m.Data[unix.SizeofIfInfomsg:]) {
				attrs[typ] = v
			}
		}
		if Text(attrs[unix.IFLA_IFNAME]) != "eth0" || Uint32(attrs[unix.IFLA_LINK]) != 7 || Uint32(attrs[unix.IFLA_MTU]) != 1400 || Uint32(attrs[unix.IFLA_GROUP]) != 9 {
			t.Errorf("%s: attributes %v", x.kind, attrs)
		}
		for typ, v := range Attrs(attrs[unix.IFLA_LINKINFO]) {
			switch typ {
			case unix.IFLA_INFO_KIND:
				if Text(v) != x.kind {
					t.Errorf("kind %q, want %q", Text(v), x.kind)
				}
			case unix.IFLA_INFO_DATA:
				got := 0
				for typ, v := range Attrs(v) {
					got++
					if !slices.Equal(v, x.data[typ]) {
						t.Errorf("%s: %d is %v, want %v", x.kind, typ, v, x.data[typ])
					}
				}
				if got != len(x.data) {
					t.Errorf("%s: %d data, want %d", x.kind, got, len(x.data))
				}
			}
		}
	}
}
