package netlink

import (
	"encoding/binary"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Source: include/uapi/linux/{veth,if_link,if}.h.
const (
	operUp               = 6 // IF_OPER_UP
	vethInfoPeer         = 1 // VETH_INFO_PEER
	iflaInet6AddrGenMode = 8 // IFLA_INET6_ADDR_GEN_MODE
	addrGenModeNone      = 1 // IN6_ADDR_GEN_MODE_NONE
	infoSlaveKind        = 4 // IFLA_INFO_SLAVE_KIND
	infoSlaveData        = 5 // IFLA_INFO_SLAVE_DATA
	extFilterSkipStats   = 8 // RTEXT_FILTER_SKIP_STATS
)

// Link is a network interface.
type Link struct {
	Index  int
	Name   string
	Kind   string // "bridge", "veth", …; "" for hardware
	Group  uint32 // see Child.Group
	Master int    // index of the bridge it is a port of, or 0
	MTU    int
	Up     bool // asked to be up
	Works  bool // operational state (RFC 2863) is up
	Qdisc  string
	MAC    []byte
	Stats  Stats
}

// Stats are an interface's counters (struct rtnl_link_stats64).
type Stats struct {
	RxPackets, TxPackets, RxBytes, TxBytes   uint64
	RxErrors, TxErrors, RxDropped, TxDropped uint64
}

// ifinfo adds struct ifinfomsg.
func (r *Request) ifinfo(family uint8, index int, flags, change uint32) {
	var h [unix.SizeofIfInfomsg]byte
	h[0] = family
	binary.NativeEndian.PutUint32(h[4:], uint32(index))
	binary.NativeEndian.PutUint32(h[8:], flags)
	binary.NativeEndian.PutUint32(h[12:], change)
	r.Header(h[:]...)
}

// AddBridge creates a bridge that is up. A MAC given here stays; otherwise the
// kernel changes it whenever a port with a lower one comes.
func (r *Request) AddBridge(name string, mac []byte, mtu int) {
	r.Message(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	r.ifinfo(unix.AF_UNSPEC, 0, unix.IFF_UP, unix.IFF_UP)
	r.String(unix.IFLA_IFNAME, name)
	r.Attr(unix.IFLA_ADDRESS, mac)
	r.Uint32(unix.IFLA_MTU, uint32(mtu))
	info := r.Nest(unix.IFLA_LINKINFO)
	r.String(unix.IFLA_INFO_KIND, "bridge")
	r.End(info)
}

// Veth is a pair of interfaces.
type Veth struct {
	Name   string // the end here
	MTU    int
	Peer   string   // the end there
	PeerNS *os.File // namespace of the peer; nil: here
	// NoIPv6 keeps the end here without an IPv6 address of its own. A kernel
	// without IPv6 refuses it (EAFNOSUPPORT).
	NoIPv6 bool
}

// AddVeth creates a pair of interfaces, both down; one or two messages. The end
// that is turned on second works at once, the first one after the kernel's
// link watch has run.
//
// Both ends have one queue in each direction: the default is one per CPU, which
// only takes memory.
func (r *Request) AddVeth(v Veth) {
	r.Message(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	r.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	end := func(name string) {
		r.String(unix.IFLA_IFNAME, name)
		r.Uint32(unix.IFLA_MTU, uint32(v.MTU))
		r.Uint32(unix.IFLA_NUM_TX_QUEUES, 1)
		r.Uint32(unix.IFLA_NUM_RX_QUEUES, 1)
	}
	end(v.Name)
	info := r.Nest(unix.IFLA_LINKINFO)
	r.String(unix.IFLA_INFO_KIND, "veth")
	data := r.Nest(unix.IFLA_INFO_DATA)
	peer := r.Nest(vethInfoPeer)
	// This header lies inside the attribute. Asking for "up" in it is refused:
	// the peer has no partner yet (veth_open: ENOTCONN).
	r.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	end(v.Peer)
	if v.PeerNS != nil {
		r.Uint32(unix.IFLA_NET_NS_FD, uint32(v.PeerNS.Fd()))
	}
	r.End(peer)
	r.End(data)
	r.End(info)

	if v.NoIPv6 {
		r.NoIPv6(v.Name)
	}
}

// NoIPv6 keeps a link that is down without an IPv6 address of its own. It is a
// message of its own because a request that creates a link ignores
// IFLA_AF_SPEC. A kernel without IPv6 refuses it (EAFNOSUPPORT).
func (r *Request) NoIPv6(name string) {
	r.Message(unix.RTM_NEWLINK, 0)
	r.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	r.String(unix.IFLA_IFNAME, name)
	spec := r.Nest(unix.IFLA_AF_SPEC)
	inet6 := r.Nest(unix.AF_INET6)
	r.Uint8(iflaInet6AddrGenMode, addrGenModeNone)
	r.End(inet6)
	r.End(spec)
}

// SetUp turns a link on. index is its number, or 0 with its name.
func (r *Request) SetUp(index int, name string) {
	r.Message(unix.RTM_NEWLINK, 0)
	r.ifinfo(unix.AF_UNSPEC, index, unix.IFF_UP, unix.IFF_UP)
	if name != "" {
		r.String(unix.IFLA_IFNAME, name)
	}
}

// SetMAC changes a link's hardware address.
func (r *Request) SetMAC(index int, mac []byte) {
	r.Message(unix.RTM_NEWLINK, 0)
	r.ifinfo(unix.AF_UNSPEC, index, 0, 0)
	r.Attr(unix.IFLA_ADDRESS, mac)
}

// AddPort makes a link a port of a bridge and turns it on. index is the link's
// number, or 0 with its name.
func (r *Request) AddPort(index int, name string, bridge int) {
	r.SetUp(index, name)
	r.Uint32(unix.IFLA_MASTER, uint32(bridge))
}

// SetMTU changes a link's largest packet, in bytes.
func (r *Request) SetMTU(index, mtu int) {
	r.Message(unix.RTM_NEWLINK, 0)
	r.ifinfo(unix.AF_UNSPEC, index, 0, 0)
	r.Uint32(unix.IFLA_MTU, uint32(mtu))
}

// SetPort sets how a bridge treats one of its ports: hairpin lets a packet
// leave by the port it came in by, isolated lets it reach only ports that are
// not isolated and the bridge itself. index is the link's number, or 0 with its
// name.
//
// Source: ip-link(8), "type bridge_slave".
func (r *Request) SetPort(index int, name string, hairpin, isolated bool) {
	r.Message(unix.RTM_NEWLINK, 0)
	r.ifinfo(unix.AF_UNSPEC, index, 0, 0)
	if name != "" {
		r.String(unix.IFLA_IFNAME, name)
	}
	info := r.Nest(unix.IFLA_LINKINFO)
	r.String(infoSlaveKind, "bridge")
	data := r.Nest(infoSlaveData)
	r.Uint8(unix.IFLA_BRPORT_MODE, bit(hairpin))
	r.Uint8(unix.IFLA_BRPORT_ISOLATED, bit(isolated))
	r.End(data)
	r.End(info)
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// DelLink removes a link. For one end of a veth pair the kernel waits for an
// RCU grace period, 10 ms and more: not for hot paths.
func (r *Request) DelLink(index int) {
	r.Message(unix.RTM_DELLINK, 0)
	r.ifinfo(unix.AF_UNSPEC, index, 0, 0)
}

// Links returns all links of the namespace.
func (c *Conn) Links() (links []Link, err error) {
	var r Request
	r.Message(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	r.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	err = c.Dump(&r, func() { links = nil }, func(m Message) {
		if l, ok := ParseLink(m); ok {
			links = append(links, l)
		}
	})
	return links, err
}

// Link returns the link with an index, or, when that is 0, a name.
// Errors: ENODEV.
func (c *Conn) Link(index int, name string) (Link, error) { return c.link(index, name, true) }

// LinkState is Link without the counters, which cost most of it.
func (c *Conn) LinkState(index int, name string) (Link, error) { return c.link(index, name, false) }

func (c *Conn) link(index int, name string, stats bool) (l Link, err error) {
	var r Request
	r.Message(unix.RTM_GETLINK, 0)
	r.ifinfo(unix.AF_UNSPEC, index, 0, 0)
	if index == 0 {
		r.String(unix.IFLA_IFNAME, name)
	}
	if !stats {
		r.Uint32(unix.IFLA_EXT_MASK, extFilterSkipStats)
	}
	err = c.Get(&r, func(m Message) { l, _ = ParseLink(m) })
	return l, err
}

// ParseLink reads an RTM_NEWLINK or RTM_DELLINK message.
func ParseLink(m Message) (l Link, ok bool) {
	if m.Type != unix.RTM_NEWLINK && m.Type != unix.RTM_DELLINK || len(m.Data) < unix.SizeofIfInfomsg {
		return l, false
	}
	l.Index = int(int32(Uint32(m.Data[4:])))
	l.Up = Uint32(m.Data[8:])&unix.IFF_UP != 0
	for t, v := range Attrs(m.Data[unix.SizeofIfInfomsg:]) {
		switch t {
		case unix.IFLA_IFNAME:
			l.Name = Text(v)
		case unix.IFLA_ADDRESS:
			l.MAC = slices.Clone(v)
		case unix.IFLA_MTU:
			l.MTU = int(Uint32(v))
		case unix.IFLA_OPERSTATE:
			l.Works = len(v) > 0 && v[0] == operUp
		case unix.IFLA_QDISC:
			l.Qdisc = Text(v)
		case unix.IFLA_MASTER:
			l.Master = int(Uint32(v))
		case unix.IFLA_GROUP:
			l.Group = Uint32(v)
		case unix.IFLA_LINKINFO:
			for t, v := range Attrs(v) {
				if t == unix.IFLA_INFO_KIND {
					l.Kind = Text(v)
				}
			}
		case unix.IFLA_STATS64:
			l.Stats = parseStats(v)
		}
	}
	return l, true
}

func parseStats(v []byte) (s Stats) {
	for i, p := range []*uint64{&s.RxPackets, &s.TxPackets, &s.RxBytes, &s.TxBytes, &s.RxErrors, &s.TxErrors, &s.RxDropped, &s.TxDropped} {
		if len(v) >= 8*(i+1) {
			*p = binary.NativeEndian.Uint64(v[8*i:])
		}
	}
	return s
}
