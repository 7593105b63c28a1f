package netlink

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// SetNeighbour tells the kernel which hardware address has an address on a link.
// It believes that at once, and asks the neighbour itself later (NUD_STALE).
//
// Source: rtnetlink(7), RTM_NEWNEIGH; RFC 4861 7.3.2.
func (r *Request) SetNeighbour(index int, ip netip.Addr, mac []byte) {
	r.Message(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	var h [unix.SizeofNdMsg]byte
	h[0] = family(ip)
	binary.NativeEndian.PutUint32(h[4:], uint32(index))
	binary.NativeEndian.PutUint16(h[8:], unix.NUD_STALE)
	r.Header(h[:]...)
	r.Attr(unix.NDA_DST, ip.AsSlice())
	r.Attr(unix.NDA_LLADDR, mac)
}

// SetStation tells a bridge behind which of its ports a hardware address is,
// until it learns something else.
//
// Source: bridge(8), "fdb replace … master dynamic"; br_fdb_add in
// net/bridge/br_fdb.c.
func (r *Request) SetStation(port int, mac []byte) {
	r.Message(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	var h [unix.SizeofNdMsg]byte
	h[0] = unix.AF_BRIDGE
	binary.NativeEndian.PutUint32(h[4:], uint32(port))
	binary.NativeEndian.PutUint16(h[8:], unix.NUD_REACHABLE)
	h[10] = unix.NTF_MASTER
	r.Header(h[:]...)
	r.Attr(unix.NDA_LLADDR, mac)
}
