package conntrack

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
)

// Source: include/uapi/linux/netfilter/nfnetlink_conntrack.h.
const (
	msgGet    = 1 // IPCTNL_MSG_CT_GET
	msgDelete = 2 // IPCTNL_MSG_CT_DELETE

	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaID         = 12
	ctaZone       = 18
	ctaFilter     = 25

	headerLen = 4 // of struct nfgenmsg

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
	return c.forget(to(proto, port))
}

func to(proto uint8, port uint16) selection {
	return func(r *netlink.Request) {
		t := r.Nest(ctaTupleOrig | unix.NLA_F_NESTED)
		p := r.Nest(ctaTupleProto | unix.NLA_F_NESTED)
		r.Uint8(ctaProtoNum, proto)
		r.Attr(ctaProtoDstPort, binary.BigEndian.AppendUint16(nil, port))
		r.End(p)
		r.End(t)
		filter(r, filterProto|filterDstPort, 0)
	}
}

// ForgetFrom removes the IPv4 entries of a protocol whose answers come from an
// address: those of connections to it, translated or not.
func (c *Conn) ForgetFrom(proto uint8, ip netip.Addr) error {
	return c.forget(from(proto, ip))
}

func from(proto uint8, ip netip.Addr) selection {
	return func(r *netlink.Request) {
		t := r.Nest(ctaTupleReply | unix.NLA_F_NESTED)
		a := r.Nest(ctaTupleIP | unix.NLA_F_NESTED)
		r.Attr(ctaIPv4Src, ip.AsSlice())
		r.End(a)
		p := r.Nest(ctaTupleProto | unix.NLA_F_NESTED)
		r.Uint8(ctaProtoNum, proto)
		r.End(p)
		r.End(t)
		filter(r, 0, filterSrc|filterProto)
	}
}

// selection writes the attributes that say which entries are meant.
type selection func(*netlink.Request)

func (c *Conn) forget(which selection) error {
	var r netlink.Request
	begin(&r, msgDelete, 0)
	which(&r)
	err := c.c.Do(&r)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return c.forgetEach(which)
	}
	return err
}

// entry is what names an entry: attributes as the kernel wrote them.
type entry struct{ orig, id, zone []byte }

// forgetEach is forget for kernels before Linux 6.11, which select the entries
// of a dump but not those to remove: it removes one after the other.
func (c *Conn) forgetEach(which selection) error {
	var r netlink.Request
	begin(&r, msgGet, unix.NLM_F_DUMP)
	which(&r)
	var found []entry
	err := c.c.Dump(&r, func() { found = nil }, func(m netlink.Message) {
		if len(m.Data) < headerLen {
			return
		}
		var e entry
		for typ, v := range netlink.Attrs(m.Data[headerLen:]) {
			switch typ {
			case ctaTupleOrig:
				e.orig = append(e.orig, v...)
			case ctaID:
				e.id = append(e.id, v...)
			case ctaZone:
				e.zone = append(e.zone, v...)
			}
		}
		if e.orig != nil {
			found = append(found, e)
		}
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range found {
		r.Reset()
		begin(&r, msgDelete, 0)
		r.Attr(ctaTupleOrig|unix.NLA_F_NESTED, e.orig)
		if e.zone != nil {
			r.Attr(ctaZone, e.zone)
		}
		if e.id != nil { // not one that has taken its place
			r.Attr(ctaID, e.id)
		}
		if err := c.c.Do(&r); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func begin(r *netlink.Request, msg, flags uint16) {
	r.Message(unix.NFNL_SUBSYS_CTNETLINK<<8|msg, flags)
	r.Header(unix.AF_INET, 0, 0, 0) // struct nfgenmsg
}

// filter says which fields of the two tuples count.
func filter(r *netlink.Request, orig, reply uint32) {
	f := r.Nest(ctaFilter | unix.NLA_F_NESTED)
	r.Uint32(ctaFilterOrigFlags, orig)
	r.Uint32(ctaFilterReplyFlags, reply)
	r.End(f)
}
