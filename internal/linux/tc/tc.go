package tc

import (
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
)

// Source: include/uapi/linux/{pkt_sched,pkt_cls,rtnetlink,gen_stats}.h,
// tc_act/tc_mirred.h.
const (
	sizeofTcmsg = 20

	atRoot    = 0xFFFFFFFF // TC_H_ROOT
	atIngress = 0xFFFFFFF1 // TC_H_INGRESS
	ingress   = 0xFFFF0000 // the handle that the ingress qdisc always has

	tcaKind    = 1 // TCA_KIND
	tcaOptions = 2 // TCA_OPTIONS
	tcaStats2  = 7 // TCA_STATS2

	statsBasic = 1 // TCA_STATS_BASIC
	statsQueue = 3 // TCA_STATS_QUEUE

	tbfParms  = 1 // TCA_TBF_PARMS
	tbfRate64 = 4 // TCA_TBF_RATE64
	tbfBurst  = 6 // TCA_TBF_BURST

	linklayerEthernet = 1 // TC_LINKLAYER_ETHERNET

	u32Sel      = 5 // TCA_U32_SEL
	u32Act      = 7 // TCA_U32_ACT
	u32Terminal = 1 // TC_U32_TERMINAL

	actKind        = 1 // TCA_ACT_KIND
	actOptions     = 2 // TCA_ACT_OPTIONS
	mirredParms    = 2 // TCA_MIRRED_PARMS
	actStolen      = 4 // TC_ACT_STOLEN
	egressRedirect = 1 // TCA_EGRESS_REDIR
)

// tcmsg begins a message about the object at parent of the interface index.
func tcmsg(r *netlink.Request, typ, flags uint16, index int, handle, parent, info uint32) {
	r.Message(typ, flags)
	var h [sizeofTcmsg]byte
	binary.NativeEndian.PutUint32(h[4:], uint32(index))
	binary.NativeEndian.PutUint32(h[8:], handle)
	binary.NativeEndian.PutUint32(h[12:], parent)
	binary.NativeEndian.PutUint32(h[16:], info)
	r.Header(h[:]...)
}

// TBF is a token bucket filter.
type TBF struct {
	Rate  uint64 // bytes per second
	Burst uint32 // bytes; a packet that is longer and cannot be cut is dropped
	Limit uint32 // bytes that wait
}

// rootHandle is the handle of the qdisc that ReplaceTBF makes. Naming it makes
// the kernel change the one that is there instead of starting with a new one,
// which would drop what waits.
const rootHandle = 1 << 16

// ReplaceTBF bounds what an interface sends. A filter that is there already
// gets the new values at once and keeps what waits; it must be one that
// ReplaceTBF made.
//
// Errors of the request: ENOENT when the kernel has no tbf.
func ReplaceTBF(r *netlink.Request, index int, t TBF) {
	tcmsg(r, unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, index, rootHandle, atRoot, 0)
	r.String(tcaKind, "tbf")
	options := r.Nest(tcaOptions)
	// struct tc_tbf_qopt: rate and peakrate (struct tc_ratespec, 12 bytes each),
	// limit, buffer, mtu. The 64 bit attributes below win; linklayer says that
	// no table of transmission times comes with it.
	var parms [36]byte
	parms[1] = linklayerEthernet
	binary.NativeEndian.PutUint32(parms[8:], uint32(min(t.Rate, math.MaxUint32)))
	binary.NativeEndian.PutUint32(parms[24:], t.Limit)
	r.Attr(tbfParms, parms[:])
	r.Uint32(tbfBurst, t.Burst)
	var rate [8]byte
	binary.NativeEndian.PutUint64(rate[:], t.Rate)
	r.Attr(tbfRate64, rate[:])
	r.End(options)
}

// DelRoot takes the qdisc from an interface, which gets the default one of its
// kind again: noqueue for a veth. What waits is dropped. Errors of the request:
// ENOENT when there is none but the default.
func DelRoot(r *netlink.Request, index int) {
	tcmsg(r, unix.RTM_DELQDISC, 0, index, 0, atRoot, 0)
}

// AddIngress prepares an interface for Redirect.
func AddIngress(r *netlink.Request, index int) {
	tcmsg(r, unix.RTM_NEWQDISC, unix.NLM_F_CREATE, index, ingress, atIngress, 0)
	r.String(tcaKind, "ingress")
}

// DelIngress undoes AddIngress and Redirect. Errors of the request: ENOENT or
// EINVAL when there is nothing to undo.
func DelIngress(r *netlink.Request, index int) {
	tcmsg(r, unix.RTM_DELQDISC, 0, index, ingress, atIngress, 0)
}

// Redirect makes an ifb send whatever an interface receives, as if it came from
// the interface when it has done so. While the ifb is down or gone, everything
// is dropped: a limit cannot be evaded by that.
//
// Errors of the request: EEXIST when that was done before.
func Redirect(r *netlink.Request, index, ifb int) {
	const (
		first = 1 << 16    // priority
		node  = 0x80000800 // the first filter in the first table of u32
	)
	// The protocol is in network byte order.
	protocol := uint32(unix.ETH_P_ALL)<<8&0xFF00 | uint32(unix.ETH_P_ALL)>>8
	tcmsg(r, unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL, index, node, ingress, first|protocol)
	r.String(tcaKind, "u32")
	options := r.Nest(tcaOptions)
	// struct tc_u32_sel without keys. A key that matches everything would not
	// match a frame too short to have the bytes that it looks at.
	var sel [16]byte
	sel[0] = u32Terminal
	r.Attr(u32Sel, sel[:])
	actions := r.Nest(u32Act)
	action := r.Nest(1)
	r.String(actKind, "mirred")
	parms := r.Nest(actOptions)
	var mirred [28]byte // index, capab, action, refcnt, bindcnt, eaction, ifindex
	binary.NativeEndian.PutUint32(mirred[8:], actStolen)
	binary.NativeEndian.PutUint32(mirred[20:], egressRedirect)
	binary.NativeEndian.PutUint32(mirred[24:], uint32(ifb))
	r.Attr(mirredParms, mirred[:])
	r.End(parms)
	r.End(action)
	r.End(actions)
	r.End(options)
}

// Qdisc is the root qdisc of an interface.
type Qdisc struct {
	Kind string
	TBF  TBF // if Kind is "tbf"; Burst is not reported by the kernel

	Bytes      uint64 // sent
	Packets    uint32 // sent
	Backlog    uint32 // bytes that wait
	Dropped    uint32 // packets
	Overlimits uint32 // how often a packet had to wait
}

// Root returns the root qdisc of an interface, with its counters. Errors:
// ENODEV, ENOENT when there is none.
func Root(c *netlink.Conn, index int) (q Qdisc, err error) {
	var r netlink.Request
	// The answer is a notification, which the one who asks gets with NLM_F_ECHO
	// only (qdisc_get_notify).
	tcmsg(&r, unix.RTM_GETQDISC, unix.NLM_F_ECHO, index, 0, atRoot, 0)
	err = c.Get(&r, func(m netlink.Message) { q = parseQdisc(m) })
	return q, err
}

func parseQdisc(m netlink.Message) (q Qdisc) {
	if m.Type != unix.RTM_NEWQDISC || len(m.Data) < sizeofTcmsg {
		return q
	}
	for t, v := range netlink.Attrs(m.Data[sizeofTcmsg:]) {
		switch t {
		case tcaKind:
			q.Kind = netlink.Text(v)
		case tcaOptions:
			if q.Kind == "tbf" {
				q.TBF = parseTBF(v)
			}
		case tcaStats2:
			q.parseStats(v)
		}
	}
	return q
}

func parseTBF(options []byte) (t TBF) {
	for k, v := range netlink.Attrs(options) {
		switch {
		case k == tbfParms && len(v) >= 36:
			t.Rate = max(t.Rate, uint64(netlink.Uint32(v[8:])))
			t.Limit = netlink.Uint32(v[24:])
		case k == tbfRate64 && len(v) >= 8: // only where 32 bits are not enough
			t.Rate = binary.NativeEndian.Uint64(v)
		}
	}
	return t
}

func (q *Qdisc) parseStats(stats []byte) {
	for t, v := range netlink.Attrs(stats) {
		switch {
		case t == statsBasic && len(v) >= 12: // struct gnet_stats_basic
			q.Bytes, q.Packets = binary.NativeEndian.Uint64(v), netlink.Uint32(v[8:])
		case t == statsQueue && len(v) >= 20: // struct gnet_stats_queue: qlen first
			q.Backlog, q.Dropped, q.Overlimits = netlink.Uint32(v[4:]), netlink.Uint32(v[8:]), netlink.Uint32(v[16:])
		}
	}
}
