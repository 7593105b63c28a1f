package netlink

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// Source: include/uapi/linux/{if_link,net_namespace}.h.
const (
	iflaMacvlanMode = 1 // IFLA_MACVLAN_MODE
	iflaIPVLANMode  = 1 // IFLA_IPVLAN_MODE
	iflaIPVLANFlags = 2 // IFLA_IPVLAN_FLAGS
	iflaVLANID      = 1 // IFLA_VLAN_ID
	netnsaNSID      = 1 // NETNSA_NSID
	netnsaFD        = 3 // NETNSA_FD
)

// Modes of a macvlan link (enum macvlan_mode).
const (
	MacvlanPrivate  = 1
	MacvlanVEPA     = 2
	MacvlanBridge   = 4
	MacvlanPassthru = 8
)

// Modes of an ipvlan link (enum ipvlan_mode), and flags.
const (
	IPVLANL2  = 0
	IPVLANL3  = 1
	IPVLANL3S = 2

	IPVLANPrivate = 1 // IPVLAN_F_PRIVATE
	IPVLANVEPA    = 2 // IPVLAN_F_VEPA
)

// Child is a link that lives on another one, its parent, here.
type Child struct {
	Name   string
	Parent int      // index of the parent
	NS     *os.File // namespace of the child; nil: here
	MTU    int      // 0: the parent's
	MAC    []byte   // of a macvlan link; nil: one that the kernel chooses
	Group  uint32   // a number that tells links apart (ip-link(8), "group")
}

func (r *Request) child(kind string, c Child, data func()) {
	r.Message(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	r.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	r.String(unix.IFLA_IFNAME, c.Name)
	r.Uint32(unix.IFLA_LINK, uint32(c.Parent))
	if c.NS != nil {
		r.Uint32(unix.IFLA_NET_NS_FD, uint32(c.NS.Fd()))
	}
	if c.MTU != 0 {
		r.Uint32(unix.IFLA_MTU, uint32(c.MTU))
	}
	if c.MAC != nil {
		r.Attr(unix.IFLA_ADDRESS, c.MAC)
	}
	if c.Group != 0 {
		r.Uint32(unix.IFLA_GROUP, c.Group)
	}
	info := r.Nest(unix.IFLA_LINKINFO)
	r.String(unix.IFLA_INFO_KIND, kind)
	d := r.Nest(unix.IFLA_INFO_DATA)
	data()
	r.End(d)
	r.End(info)
}

// AddMacvlan creates a link that is down and has a hardware address of its own
// on its parent's wire. Errors of the request: EBUSY when the parent is the port
// of a bridge or has ipvlan links, EINVAL when it has a link in mode passthru,
// EOPNOTSUPP when the kernel has no macvlan.
//
// Source: drivers/net/macvlan.c; ip-link(8), "MACVLAN and MACVTAP Type Support".
func (r *Request) AddMacvlan(c Child, mode uint32) {
	r.child("macvlan", c, func() { r.Uint32(iflaMacvlanMode, mode) })
}

// AddIPVLAN creates a link that is down and shares its parent's hardware
// address. The mode and the flags are the parent's: they change for all of its
// links. Errors of the request: EBUSY when the parent is the port of a bridge or
// has macvlan links, EOPNOTSUPP when the kernel has no ipvlan.
//
// Source: Documentation/networking/ipvlan.rst.
func (r *Request) AddIPVLAN(c Child, mode, flags uint16) {
	r.child("ipvlan", c, func() {
		r.uint16(iflaIPVLANMode, mode)
		r.uint16(iflaIPVLANFlags, flags)
	})
}

// AddVLAN creates an 802.1Q link that is down: its frames have the tag id, 1 to
// 4094, on the parent's wire. Errors of the request: EEXIST for a tag that the
// parent has, EOPNOTSUPP when the kernel has no 8021q.
func (r *Request) AddVLAN(c Child, id uint16) {
	r.child("vlan", c, func() { r.uint16(iflaVLANID, id) })
}

// AddDummy creates a link that is down and leads nowhere. Errors of the request:
// EOPNOTSUPP when the kernel has no dummy.
func (r *Request) AddDummy(name string) {
	r.Message(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	r.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	r.String(unix.IFLA_IFNAME, name)
	info := r.Nest(unix.IFLA_LINKINFO)
	r.String(unix.IFLA_INFO_KIND, "dummy")
	r.End(info)
}

// HasKind reports whether the kernel can make ipvlan, macvlan or vlan links; it
// loads the module that it needs. Nothing is made: a link without a parent is
// refused, after the kind was looked up (rtnl_newlink in net/core/rtnetlink.c).
func (c *Conn) HasKind(kind string) bool {
	var r Request
	r.Message(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	r.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	info := r.Nest(unix.IFLA_LINKINFO)
	r.String(unix.IFLA_INFO_KIND, kind)
	d := r.Nest(unix.IFLA_INFO_DATA)
	r.End(d)
	r.End(info)
	err := c.Do(&r)
	e, refused := err.(*Error)
	return err == nil || refused && e.Errno != unix.EOPNOTSUPP
}

// NSID returns the number under which the namespace of the connection knows
// another one, and gives it one if it has none. It stays as long as that
// namespace, whoever asked for it.
//
// Source: ip-netns(8), "ip netns set"; net/core/net_namespace.c.
func (c *Conn) NSID(ns *os.File) (id int, err error) {
	var r Request
	r.Message(unix.RTM_NEWNSID, 0)
	r.Header(unix.AF_UNSPEC, 0, 0, 0) // struct rtgenmsg, padded
	r.Uint32(netnsaFD, uint32(ns.Fd()))
	r.Uint32(netnsaNSID, ^uint32(0)) // any
	if err := c.Do(&r); err != nil {
		e, refused := err.(*Error)
		if !refused || e.Errno != unix.EEXIST {
			return 0, err
		}
	}
	r.Reset()
	r.Message(unix.RTM_GETNSID, 0)
	r.Header(unix.AF_UNSPEC, 0, 0, 0)
	r.Uint32(netnsaFD, uint32(ns.Fd()))
	err = c.Get(&r, func(m Message) {
		for t, v := range Attrs(m.Data[4:]) {
			if t == netnsaNSID {
				id = int(int32(Uint32(v)))
			}
		}
	})
	return id, err
}

// LinkOf is Link in the namespace with the number nsid (see NSID). Errors:
// ENODEV, EINVAL when there is no such namespace any more.
func (c *Conn) LinkOf(nsid int, name string) (l Link, err error) {
	var r Request
	r.Message(unix.RTM_GETLINK, 0)
	r.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	r.Uint32(unix.IFLA_IF_NETNSID, uint32(nsid))
	r.String(unix.IFLA_IFNAME, name)
	err = c.Get(&r, func(m Message) { l, _ = ParseLink(m) })
	return l, err
}

// DelLinkOf is DelLink in the namespace with the number nsid (see NSID).
func (r *Request) DelLinkOf(nsid int, name string) {
	r.Message(unix.RTM_DELLINK, 0)
	r.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	r.Uint32(unix.IFLA_IF_NETNSID, uint32(nsid))
	r.String(unix.IFLA_IFNAME, name)
}

// uint16 adds a number of 16 bits to the message.
func (r *Request) uint16(typ uint16, v uint16) {
	r.Attr(typ, binary.NativeEndian.AppendUint16(nil, v))
}
