// Package tc speaks the part of rtnetlink(7) that tc(8) does: the queueing
// disciplines that bound what an interface sends, and the redirection of what
// it receives to another interface, where it can be bounded as well.
//
//	qdisc tbf at the root of an interface            what it sends
//	qdisc ingress, filter u32, action mirred ─► ifb  what it receives: sent, for a
//	                                                 qdisc tbf, by an ifb
//
// A token bucket filter (tbf) lets bytes through at a rate, keeps up to Limit
// bytes that came too early, and drops the rest. What was not used of the rate
// is kept, up to Burst bytes. Bytes are those of frames from the destination
// address to the end of the payload; a large packet that the interface cuts
// into several (GSO) counts as these, and is cut in software when it is longer
// than the bucket.
//
// Functions add messages to a request; who sends it decides in which network
// namespace they hold. Adding what is there already changes it.
//
// Sources: tc(8), tc-tbf(8), tc-u32(8), tc-mirred(8), net/sched/{sch_tbf,
// sch_ingress,cls_u32,act_mirred}.c, drivers/net/ifb.c,
// include/uapi/linux/{pkt_sched,pkt_cls,rtnetlink}.h.
package tc
