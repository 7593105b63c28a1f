package netlink

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// VXLAN is a device that carries the frames of a link layer in UDP datagrams to
// other hosts (RFC 7348).
type VXLAN struct {
	VNI   uint32     // network identifier, 24 bits
	Port  uint16     // UDP port, here and at the other hosts
	Local netip.Addr // source of the datagrams
}

// AddVXLAN creates a VXLAN device, which is down. It sends what it knows no host
// for to all hosts of the entries with hardware address zero (SetForward), and
// learns from what it receives. Errors of the request: EEXIST when there is a
// link of this name, or a device with this VNI on this port.
//
// Source: Documentation/networking/vxlan.rst, drivers/net/vxlan.
func (r *Request) AddVXLAN(name string, mtu int, v VXLAN) {
	r.Message(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	r.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	r.String(unix.IFLA_IFNAME, name)
	r.Uint32(unix.IFLA_MTU, uint32(mtu))
	info := r.Nest(unix.IFLA_LINKINFO)
	r.String(unix.IFLA_INFO_KIND, "vxlan")
	data := r.Nest(unix.IFLA_INFO_DATA)
	r.Uint32(unix.IFLA_VXLAN_ID, v.VNI)
	local := uint16(unix.IFLA_VXLAN_LOCAL)
	if v.Local.Is6() {
		local = unix.IFLA_VXLAN_LOCAL6
	}
	r.Attr(local, v.Local.AsSlice())
	r.Attr(unix.IFLA_VXLAN_PORT, binary.BigEndian.AppendUint16(nil, v.Port))
	r.Uint8(unix.IFLA_VXLAN_LEARNING, 1)
	r.Uint8(unix.IFLA_VXLAN_UDP_CSUM, 1)
	r.End(data)
	r.End(info)
}

// VXLAN returns a link by its name, and what it is if its kind is "vxlan".
// Errors: ENODEV.
func (c *Conn) VXLAN(name string) (l Link, v VXLAN, err error) {
	var r Request
	r.Message(unix.RTM_GETLINK, 0)
	r.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	r.String(unix.IFLA_IFNAME, name)
	r.Uint32(unix.IFLA_EXT_MASK, extFilterSkipStats)
	err = c.Get(&r, func(m Message) {
		if l, _ = ParseLink(m); l.Kind == "vxlan" {
			v = parseVXLAN(m)
		}
	})
	return l, v, err
}

func parseVXLAN(m Message) (v VXLAN) {
	if len(m.Data) < unix.SizeofIfInfomsg {
		return v
	}
	for t, info := range Attrs(m.Data[unix.SizeofIfInfomsg:]) {
		if t != unix.IFLA_LINKINFO {
			continue
		}
		for t, data := range Attrs(info) {
			if t != unix.IFLA_INFO_DATA {
				continue
			}
			for t, b := range Attrs(data) {
				switch t {
				case unix.IFLA_VXLAN_ID:
					v.VNI = Uint32(b)
				case unix.IFLA_VXLAN_PORT:
					if len(b) == 2 {
						v.Port = binary.BigEndian.Uint16(b)
					}
				case unix.IFLA_VXLAN_LOCAL, unix.IFLA_VXLAN_LOCAL6:
					v.Local, _ = netip.AddrFromSlice(b)
				}
			}
		}
	}
	return v
}

// Forward is an entry of a VXLAN device's forwarding database: where frames for
// a hardware address are sent.
type Forward struct {
	MAC       []byte // zero: those of which nothing is known, and those for all
	To        netip.Addr
	Permanent bool // not learned
}

// SetForward adds a permanent entry; there may be several for the address zero.
//
// Source: bridge(8), "fdb append"; vxlan_fdb_add in drivers/net/vxlan.
func (r *Request) SetForward(index int, f Forward) {
	r.Message(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_APPEND)
	r.forward(index, f, unix.NUD_PERMANENT|unix.NUD_NOARP)
}

// DelForward removes an entry. Errors of the request: ENOENT.
func (r *Request) DelForward(index int, f Forward) {
	r.Message(unix.RTM_DELNEIGH, 0)
	r.forward(index, f, 0)
}

// forward adds struct ndmsg and what it is about.
func (r *Request) forward(index int, f Forward, state uint16) {
	var h [unix.SizeofNdMsg]byte
	h[0] = unix.AF_BRIDGE
	binary.NativeEndian.PutUint32(h[4:], uint32(index))
	binary.NativeEndian.PutUint16(h[8:], state)
	h[10] = unix.NTF_SELF
	r.Header(h[:]...)
	r.Attr(unix.NDA_LLADDR, f.MAC)
	r.Attr(unix.NDA_DST, f.To.AsSlice())
}

// Forwards returns the entries of a VXLAN device that lead to other hosts.
func (c *Conn) Forwards(index int) (out []Forward, err error) {
	var r Request
	r.Message(unix.RTM_GETNEIGH, unix.NLM_F_DUMP)
	r.ifinfo(unix.AF_BRIDGE, index, 0, 0) // the header that selects a device since Linux 3.0
	err = c.Dump(&r, func() { out = nil }, func(m Message) {
		if f, on, ok := parseForward(m); ok && on == index {
			out = append(out, f)
		}
	})
	return out, err
}

func parseForward(m Message) (f Forward, index int, ok bool) {
	if m.Type != unix.RTM_NEWNEIGH || len(m.Data) < unix.SizeofNdMsg {
		return f, 0, false
	}
	index = int(int32(Uint32(m.Data[4:])))
	f.Permanent = binary.NativeEndian.Uint16(m.Data[8:])&unix.NUD_PERMANENT != 0
	for t, b := range Attrs(m.Data[unix.SizeofNdMsg:]) {
		switch t {
		case unix.NDA_LLADDR:
			f.MAC = slices.Clone(b)
		case unix.NDA_DST:
			f.To, ok = netip.AddrFromSlice(b)
		}
	}
	return f, index, ok && len(f.MAC) > 0
}
