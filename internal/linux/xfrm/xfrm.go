package xfrm

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
)

// Source: include/uapi/linux/xfrm.h.
const (
	msgNewSA     = 0x10 // XFRM_MSG_NEWSA
	msgDelSA     = 0x11
	msgGetSA     = 0x12
	msgNewPolicy = 0x13
	msgDelPolicy = 0x14
	msgGetPolicy = 0x15
	msgUpdPolicy = 0x19

	attrAlgCrypt     = 2 // XFRMA_ALG_CRYPT
	attrTmpl         = 5
	attrAlgAuthTrunc = 20
	attrExtraFlags   = 24 // XFRMA_SA_EXTRA_FLAGS

	oseqMayWrap = 2 // XFRM_SA_XFLAG_OSEQ_MAY_WRAP, since Linux 5.9

	selectorLen = 56
	lifetimeLen = 64 + 32 // struct xfrm_lifetime_cfg and _cur
	saLen       = 224     // struct xfrm_usersa_info
	policyLen   = 168     // struct xfrm_userpolicy_info
)

// Direction is that of what a policy is about.
type Direction uint8

// In and Out are the directions of what comes for this host and what it sends.
const (
	In  Direction = 0 // XFRM_POLICY_IN
	Out Direction = 1 // XFRM_POLICY_OUT
)

// KeyLen is the size of each of a State's keys, in bytes.
const KeyLen = 32

// State is one direction of what two hosts send each other in ESP: AES-256 in CBC
// mode, and the first 128 bits of HMAC-SHA-256 (RFC 3602, RFC 4868). There is no
// protection against datagrams that are sent again, so that the one end may start
// to count anew without the other.
type State struct {
	Src, Dst  netip.Addr
	SPI       uint32 // 256 and higher
	ReqID     uint32
	Encrypt   [KeyLen]byte
	Integrity [KeyLen]byte
}

// Policy says that UDP datagrams to a port must be in ESP: what Local sends, or
// what comes for it.
type Policy struct {
	Direction Direction
	Local     netip.Addr
	Port      uint16
	ReqID     uint32 // of the states that may serve it
}

// Conn changes policies and states of the network namespace where it was opened.
type Conn struct{ c *netlink.Conn }

// Dial opens a Conn in the network namespace of the calling thread. The caller
// must Close it. Errors: EPROTONOSUPPORT on a kernel without CONFIG_XFRM_USER.
func Dial() (*Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_XFRM)
	if err != nil {
		return nil, err
	}
	return &Conn{c}, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return c.c.Close() }

// AddState adds a state. Errors: EEXIST for one with this SPI, EPROTONOSUPPORT on a
// kernel without ESP, ENOSYS on one without an algorithm.
func (c *Conn) AddState(s State) error {
	var r netlink.Request
	addState(&r, s)
	return c.c.Do(&r)
}

func addState(r *netlink.Request, s State) {
	r.Message(msgNewSA, 0)
	b := append(make([]byte, 0, saLen), make([]byte, selectorLen)...) // nothing is selected: the policy does it
	b = appendID(b, s.Dst, s.SPI)
	b = appendAddr(b, s.Src)
	b = appendLifetime(b)
	b = append(b, make([]byte, 12+4)...) // statistics, sequence number of an acquisition
	b = binary.NativeEndian.AppendUint32(b, s.ReqID)
	b = binary.NativeEndian.AppendUint16(b, family(s.Dst))
	b = append(b, make([]byte, saLen-len(b))...) // transport mode, no replay window
	r.Header(b...)
	r.Attr(attrAlgCrypt, algorithm("cbc(aes)", s.Encrypt[:]))
	r.Attr(attrAlgAuthTrunc, algorithm("hmac(sha256)", s.Integrity[:], 128))
	r.Uint32(attrExtraFlags, oseqMayWrap)
}

// DelState removes a state. Errors: ESRCH.
func (c *Conn) DelState(s State) error {
	var r netlink.Request
	r.Message(msgDelSA, 0)
	b := appendAddr(nil, s.Dst) // struct xfrm_usersa_id
	b = binary.BigEndian.AppendUint32(b, s.SPI)
	b = binary.NativeEndian.AppendUint16(b, family(s.Dst))
	r.Header(append(b, unix.IPPROTO_ESP, 0)...)
	return c.c.Do(&r)
}

// States returns those with a request id, without their keys.
func (c *Conn) States(reqID uint32) (out []State, err error) {
	var r netlink.Request
	r.Message(msgGetSA, unix.NLM_F_DUMP)
	err = c.c.Dump(&r, func() { out = nil }, func(m netlink.Message) {
		if s, ok := parseState(m); ok && s.ReqID == reqID {
			out = append(out, s)
		}
	})
	return out, err
}

func parseState(m netlink.Message) (s State, ok bool) {
	if m.Type != msgNewSA || len(m.Data) < saLen {
		return s, false
	}
	const id = selectorLen
	f := binary.NativeEndian.Uint16(m.Data[id+24+16+lifetimeLen+12+8:])
	s.Dst = addr(f, m.Data[id:])
	s.SPI = binary.BigEndian.Uint32(m.Data[id+16:])
	s.Src = addr(f, m.Data[id+24:])
	s.ReqID = binary.NativeEndian.Uint32(m.Data[id+24+16+lifetimeLen+12+4:])
	return s, m.Data[id+20] == unix.IPPROTO_ESP && s.SPI != 0 // one without is only waited for
}

// SetPolicy adds a policy, or replaces that for the same datagrams.
func (c *Conn) SetPolicy(p Policy) error {
	var r netlink.Request
	setPolicy(&r, p)
	return c.c.Do(&r)
}

func setPolicy(r *netlink.Request, p Policy) {
	r.Message(msgUpdPolicy, 0)
	b := appendSelector(make([]byte, 0, policyLen), p)
	b = appendLifetime(b)
	b = append(b, make([]byte, 8)...) // priority, index
	b = append(b, byte(p.Direction))
	b = append(b, make([]byte, policyLen-len(b))...) // XFRM_POLICY_ALLOW, with the template
	r.Header(b...)
	t := appendID(make([]byte, 0, 64), netip.Addr{}, 0) // struct xfrm_user_tmpl: between whomever the datagram is
	t = binary.NativeEndian.AppendUint16(t, family(p.Local))
	t = append(t, make([]byte, 2+16)...)
	t = binary.NativeEndian.AppendUint32(t, p.ReqID)
	t = append(t, make([]byte, 4)...) // transport mode
	for range 3 {
		t = binary.NativeEndian.AppendUint32(t, ^uint32(0)) // with whichever algorithm the state has
	}
	r.Attr(attrTmpl, t)
}

// DelPolicy removes a policy. Errors: ENOENT.
func (c *Conn) DelPolicy(p Policy) error {
	var r netlink.Request
	r.Message(msgDelPolicy, 0)
	b := appendSelector(nil, p) // struct xfrm_userpolicy_id
	b = append(b, make([]byte, 4)...)
	r.Header(append(b, byte(p.Direction), 0, 0, 0)...)
	return c.c.Do(&r)
}

// Policies returns those that SetPolicy may have made.
func (c *Conn) Policies() (out []Policy, err error) {
	var r netlink.Request
	r.Message(msgGetPolicy, unix.NLM_F_DUMP)
	err = c.c.Dump(&r, func() { out = nil }, func(m netlink.Message) {
		if p, ok := parsePolicy(m); ok {
			out = append(out, p)
		}
	})
	return out, err
}

func parsePolicy(m netlink.Message) (p Policy, ok bool) {
	if m.Type != msgNewPolicy || len(m.Data) < policyLen {
		return p, false
	}
	f := binary.NativeEndian.Uint16(m.Data[40:])
	p.Direction = Direction(m.Data[selectorLen+lifetimeLen+8])
	at := 16
	if p.Direction == In {
		at = 0
	}
	p.Local, p.Port = addr(f, m.Data[at:]), binary.BigEndian.Uint16(m.Data[32:])
	for t, v := range netlink.Attrs(m.Data[policyLen:]) {
		if t == attrTmpl && len(v) == 64 {
			p.ReqID = binary.NativeEndian.Uint32(v[44:])
		}
	}
	return p, m.Data[44] == unix.IPPROTO_UDP && p.ReqID != 0 && p.Direction <= Out
}

// appendSelector adds struct xfrm_selector: UDP datagrams to a port, from or to
// the one address and any other.
func appendSelector(b []byte, p Policy) []byte {
	dst, src, dstLen, srcLen := netip.Addr{}, p.Local, 0, p.Local.BitLen()
	if p.Direction == In {
		dst, src, dstLen, srcLen = src, dst, srcLen, dstLen
	}
	b = appendAddr(appendAddr(b, dst), src)
	b = binary.BigEndian.AppendUint16(b, p.Port)
	b = append(b, 0xff, 0xff, 0, 0, 0, 0) // the whole port, from any
	b = binary.NativeEndian.AppendUint16(b, family(p.Local))
	b = append(b, byte(dstLen), byte(srcLen), unix.IPPROTO_UDP)
	return append(b, make([]byte, 3+4+4)...)
}

// appendID adds struct xfrm_id.
func appendID(b []byte, dst netip.Addr, spi uint32) []byte {
	b = binary.BigEndian.AppendUint32(appendAddr(b, dst), spi)
	return append(b, unix.IPPROTO_ESP, 0, 0, 0)
}

// appendLifetime adds structs for a life without end (XFRM_INF).
func appendLifetime(b []byte) []byte {
	for range 4 {
		b = binary.NativeEndian.AppendUint64(b, ^uint64(0))
	}
	return append(b, make([]byte, lifetimeLen-32)...)
}

// algorithm returns struct xfrm_algo, or with a length, in bits, of its result
// struct xfrm_algo_auth.
func algorithm(name string, key []byte, trunc ...uint32) []byte {
	b := append(make([]byte, 0, 128), name...)
	b = append(b, make([]byte, 64-len(name))...)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(key)*8))
	for _, t := range trunc {
		b = binary.NativeEndian.AppendUint32(b, t)
	}
	return append(b, key...)
}

// appendAddr adds xfrm_address_t, of 16 bytes in each family.
func appendAddr(b []byte, a netip.Addr) []byte {
	raw := a.AsSlice()
	b = append(b, raw...)
	return append(b, make([]byte, 16-len(raw))...)
}

func addr(family uint16, b []byte) netip.Addr {
	if family == unix.AF_INET6 {
		return netip.AddrFrom16([16]byte(b))
	}
	return netip.AddrFrom4([4]byte(b))
}

func family(a netip.Addr) uint16 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
