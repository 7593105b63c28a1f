package conntrack

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
)

// Source: include/uapi/linux/netfilter/nfnetlink_conntrack.h.
const (
	msgDelete = 2 // IPCTNL_MSG_CT_DELETE

	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaFilter     = 25

	ctaTupleIP    = 1
	ctaTupleProto = 2

	ctaIPv4Src      = 1
	ctaProtoNum     = 1
	ctaProtoDstPort = 3

	ctaFilterOrigFlags  = 1
	ctaFilterReplyFlags = 2

	filterSrc     = 1 << 0 // CTA_FILTER_F_CTA_IP_SRC
	filterProto   = 1 << 3 // CTA_FILTER_F_CTA_PROTO_NUM
	filterDstPort = 1 << 5 // CTA_FILTER_F_CTA_PROTO_DST_PORT
)

// Conn changes the connection tracking of the network namespace where it was
// opened.
type Conn struct{ c *netlink.Conn }

// Dial opens a Conn in the network namespace of the calling thread. The caller
// must Close it.
func Dial() (*Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	return &Conn{c}, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return c.c.Close() }

// ForgetTo removes the IPv4 entries of a protocol (unix.IPPROTO_UDP, …) that
// were first sent to a port of any address.
func (c *Conn) ForgetTo(proto uint8, port uint16) error {
	var r netlink.Request
	begin(&r)
	t := r.Nest(ctaTupleOrig | unix.NLA_F_NESTED)
	p := r.Nest(ctaTupleProto | unix.NLA_F_NESTED)
	r.Uint8(ctaProtoNum, proto)
	r.Attr(ctaProtoDstPort, binary.BigEndian.AppendUint16(nil, port))
	r.End(p)
	r.End(t)
	filter(&r, filterProto|filterDstPort, 0)
	return c.c.Do(&r)
}

// ForgetFrom removes the IPv4 entries of a protocol whose answers come from an
// address: those of connections to it, translated or not.
func (c *Conn) ForgetFrom(proto uint8, ip netip.Addr) error {
	var r netlink.Request
	begin(&r)
	t := r.Nest(ctaTupleReply | unix.NLA_F_NESTED)
	a := r.Nest(ctaTupleIP | unix.NLA_F_NESTED)
	r.Attr(ctaIPv4Src, ip.AsSlice())
	r.End(a)
	p := r.Nest(ctaTupleProto | unix.NLA_F_NESTED)
	r.Uint8(ctaProtoNum, proto)
	r.End(p)
	r.End(t)
	filter(&r, 0, filterSrc|filterProto)
	return c.c.Do(&r)
}

func begin(r *netlink.Request) {
	r.Message(unix.NFNL_SUBSYS_CTNETLINK<<8|msgDelete, 0)
	r.Header(unix.AF_INET, 0, 0, 0) // struct nfgenmsg
}

// filter says which fields of the two tuples count.
func filter(r *netlink.Request, orig, reply uint32) {
	f := r.Nest(ctaFilter | unix.NLA_F_NESTED)
	r.Uint32(ctaFilterOrigFlags, orig)
	r.Uint32(ctaFilterReplyFlags, reply)
	r.End(f)
}
