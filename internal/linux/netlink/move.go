package netlink

import "golang.org/x/sys/unix"

// MoveLink moves a link into the network namespace with descriptor ns, under a
// new name, and turns it off; the kernel drops its addresses. The link may get
// another number there.
//
// Source: rtnetlink(7); rtnl_newlink in net/core/rtnetlink.c.
func (r *Request) MoveLink(index, ns int, name string) {
	r.Message(unix.RTM_NEWLINK, 0)
	r.ifinfo(unix.AF_UNSPEC, index, 0, unix.IFF_UP)
	r.Uint32(unix.IFLA_NET_NS_FD, uint32(ns))
	r.String(unix.IFLA_IFNAME, name)
}

// GlobalAddrs returns the permanent addresses of global scope, of both
// families: not what a router or the kernel itself has given a link.
func (c *Conn) GlobalAddrs() (addrs []Addr, err error) {
	var r Request
	r.Message(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	r.Header(make([]byte, unix.SizeofIfAddrmsg)...)
	err = c.Dump(&r, func() { addrs = nil }, func(m Message) {
		// struct ifaddrmsg: flags at 2, scope at 3.
		if a, ok := parseAddr(m); ok && m.Data[2]&unix.IFA_F_PERMANENT != 0 && m.Data[3] == unix.RT_SCOPE_UNIVERSE {
			addrs = append(addrs, a)
		}
	})
	return addrs, err
}
