package netlink

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Addr is an address of an interface.
type Addr struct {
	Index  int // of the link
	Prefix netip.Prefix
}

// Route is an entry of a routing table.
type Route struct {
	Dst     netip.Prefix // zero bits: the default route
	Gateway netip.Addr   // zero: on the link
	Index   int          // of the link, or 0
	Table   int
	Type    uint8 // unix.RTN_UNICAST, …
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// AddAddr gives a link an address; the kernel adds the route to its subnet. An
// IPv6 address is not looked for on the link first (no duplicate address
// detection): whoever gives it knows that it is free, and it works at once.
func (r *Request) AddAddr(index int, p netip.Prefix) {
	r.Message(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	r.addr(index, p)
}

// DelAddr takes an address from a link.
func (r *Request) DelAddr(index int, p netip.Prefix) {
	r.Message(unix.RTM_DELADDR, 0)
	r.addr(index, p)
}

func (r *Request) addr(index int, p netip.Prefix) {
	var h [unix.SizeofIfAddrmsg]byte
	h[0], h[1] = family(p.Addr()), uint8(p.Bits())
	if p.Addr().Is6() {
		h[2] = unix.IFA_F_NODAD
	}
	binary.NativeEndian.PutUint32(h[4:], uint32(index))
	r.Header(h[:]...)
	r.Attr(unix.IFA_LOCAL, p.Addr().AsSlice())
	r.Attr(unix.IFA_ADDRESS, p.Addr().AsSlice())
	if p.Addr().Is4() && p.Bits() < 31 {
		r.Attr(unix.IFA_BROADCAST, last(p).AsSlice())
	}
}

// last returns the highest address of an IPv4 prefix.
func last(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	v := binary.BigEndian.Uint32(a[:]) | ^uint32(0)>>p.Bits()
	binary.BigEndian.PutUint32(a[:], v)
	return netip.AddrFrom4(a)
}

// AddDefaultRoute sends everything that no other route takes to gateway; to the
// link itself when that is unspecified (0.0.0.0 or ::).
func (r *Request) AddDefaultRoute(index int, gateway netip.Addr) {
	r.Message(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	r.defaultRoute(index, gateway)
}

// AddRoute sends what is for a prefix through a gateway, or without one to the
// link itself.
func (r *Request) AddRoute(index int, dst netip.Prefix, gateway netip.Addr) {
	r.Message(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	var h [unix.SizeofRtMsg]byte
	h[0], h[1] = family(dst.Addr()), byte(dst.Bits())
	h[4], h[5], h[6], h[7] = unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST
	if !gateway.IsValid() && dst.Addr().Is4() {
		h[6] = unix.RT_SCOPE_LINK
	}
	r.Header(h[:]...)
	r.Attr(unix.RTA_DST, dst.Masked().Addr().AsSlice())
	if gateway.IsValid() {
		r.Attr(unix.RTA_GATEWAY, gateway.AsSlice())
	}
	r.Uint32(unix.RTA_OIF, uint32(index))
}

func (r *Request) defaultRoute(index int, gateway netip.Addr) {
	var h [unix.SizeofRtMsg]byte
	h[0] = family(gateway)
	h[4], h[5], h[6], h[7] = unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST
	if gateway.IsUnspecified() && gateway.Is4() {
		h[6] = unix.RT_SCOPE_LINK
	}
	r.Header(h[:]...)
	if !gateway.IsUnspecified() {
		r.Attr(unix.RTA_GATEWAY, gateway.AsSlice())
	}
	r.Uint32(unix.RTA_OIF, uint32(index))
}

// SetDefaultRoute is AddDefaultRoute that replaces the route of its family that
// is there.
func (r *Request) SetDefaultRoute(index int, gateway netip.Addr) {
	r.Message(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	r.defaultRoute(index, gateway)
}

// DelDefaultRoute removes the default route through a gateway.
func (r *Request) DelDefaultRoute(index int, gateway netip.Addr) {
	r.Message(unix.RTM_DELROUTE, 0)
	r.defaultRoute(index, gateway)
}

// Addrs returns the IPv4 addresses of all links.
func (c *Conn) Addrs() ([]Addr, error) { return c.addrs(unix.AF_INET) }

// Addrs6 returns the IPv6 addresses of all links.
func (c *Conn) Addrs6() ([]Addr, error) { return c.addrs(unix.AF_INET6) }

func (c *Conn) addrs(family uint8) (addrs []Addr, err error) {
	var r Request
	r.Message(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	var h [unix.SizeofIfAddrmsg]byte
	h[0] = family
	r.Header(h[:]...)
	err = c.Dump(&r, func() { addrs = nil }, func(m Message) {
		if a, ok := parseAddr(m); ok {
			addrs = append(addrs, a)
		}
	})
	return addrs, err
}

func parseAddr(m Message) (a Addr, ok bool) {
	if m.Type != unix.RTM_NEWADDR || len(m.Data) < unix.SizeofIfAddrmsg {
		return a, false
	}
	a.Index = int(Uint32(m.Data[4:]))
	bits := int(m.Data[1])
	for t, v := range Attrs(m.Data[unix.SizeofIfAddrmsg:]) {
		// IFA_LOCAL is the own address; IFA_ADDRESS the same or, on a point to
		// point link, the peer's.
		if ip, valid := netip.AddrFromSlice(v); valid && (t == unix.IFA_LOCAL || t == unix.IFA_ADDRESS && !a.Prefix.IsValid()) {
			a.Prefix = netip.PrefixFrom(ip, bits)
		}
	}
	return a, a.Prefix.IsValid()
}

// Routes returns the IPv4 routes of all tables.
func (c *Conn) Routes() ([]Route, error) { return c.routes(unix.AF_INET) }

// AllRoutes returns the routes of all families and tables.
func (c *Conn) AllRoutes() ([]Route, error) { return c.routes(unix.AF_UNSPEC) }

// RouteTo returns the route that the kernel takes to an address. Errors:
// ENETUNREACH, EHOSTUNREACH.
func (c *Conn) RouteTo(ip netip.Addr) (rt Route, err error) {
	var r Request
	r.Message(unix.RTM_GETROUTE, 0)
	var h [unix.SizeofRtMsg]byte
	h[0], h[1] = family(ip), uint8(ip.BitLen())
	r.Header(h[:]...)
	r.Attr(unix.RTA_DST, ip.AsSlice())
	err = c.Get(&r, func(m Message) { rt, _ = ParseRoute(m) })
	return rt, err
}

func (c *Conn) routes(family uint8) (routes []Route, err error) {
	var r Request
	r.Message(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
	var h [unix.SizeofRtMsg]byte
	h[0] = family
	r.Header(h[:]...)
	err = c.Dump(&r, func() { routes = nil }, func(m Message) {
		if rt, ok := ParseRoute(m); ok {
			routes = append(routes, rt)
		}
	})
	return routes, err
}

// ParseRoute reads an RTM_NEWROUTE message.
func ParseRoute(m Message) (rt Route, ok bool) {
	if m.Type != unix.RTM_NEWROUTE || len(m.Data) < unix.SizeofRtMsg {
		return rt, false
	}
	ip, bits := netip.IPv4Unspecified(), int(m.Data[1])
	if m.Data[0] == unix.AF_INET6 {
		ip = netip.IPv6Unspecified()
	}
	rt.Table, rt.Type = int(m.Data[4]), m.Data[7]
	for t, v := range Attrs(m.Data[unix.SizeofRtMsg:]) {
		switch t {
		case unix.RTA_DST:
			if a, valid := netip.AddrFromSlice(v); valid {
				ip = a
			}
		case unix.RTA_GATEWAY:
			rt.Gateway, _ = netip.AddrFromSlice(v)
		case unix.RTA_OIF:
			rt.Index = int(Uint32(v))
		case unix.RTA_TABLE:
			rt.Table = int(Uint32(v))
		}
	}
	rt.Dst = netip.PrefixFrom(ip, bits)
	return rt, rt.Dst.IsValid()
}
