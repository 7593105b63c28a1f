// Package conntrack makes the kernel forget connections, so that rules which
// changed hold for them at once: address translation is decided by the first
// packet of a connection, and for UDP a client that goes on sending from its
// port never ends one.
//
// The kernel selects the entries itself (CTA_FILTER, Linux 5.8); the work
// grows with the size of its table, not with the number of entries found.
//
// Sources: include/uapi/linux/netfilter/nfnetlink_conntrack.h,
// net/netfilter/nf_conntrack_netlink.c (ctnetlink_flush_conntrack).
package conntrack
