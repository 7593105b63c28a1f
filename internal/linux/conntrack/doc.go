// Package conntrack makes the kernel forget connections, so that rules which
// changed hold for them at once: address translation is decided by the first
// packet of a connection, and for UDP a client that goes on sending from its
// port never ends one.
//
// The kernel selects the entries itself (CTA_FILTER); the work grows with the
// size of its table. It does so for dumps from Linux 5.8 on and for removal
// from 6.11 on; in between the entries found are removed one after the other.
//
// Sources: include/uapi/linux/netfilter/nfnetlink_conntrack.h,
// net/netfilter/nf_conntrack_netlink.c (ctnetlink_flush_conntrack,
// ctnetlink_del_conntrack, ctnetlink_start).
package conntrack
