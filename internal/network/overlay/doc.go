// Package overlay is what an overlay network has more than a bridge: what its
// options say, which part of its addresses a host has, and the VXLAN device that
// makes the bridges of all hosts one link.
//
//	host A                                                    host B
//	eth0 ═ veth ─ br-<id> ─ vx-<id> ══ UDP 4789, a VNI ══ vx-<id> ─ br-<id> ─ veth ═ eth0
//
// There is no coordinator (docs/adr/0031): every host is told the same, and works
// out the rest. The peers are the other hosts; frames for all, and those for
// hardware addresses of which nothing is known, go to each of them, and the
// kernel learns from what comes back. So once the device and its peers are set
// nothing of the engine is needed for a packet to pass.
//
// Concurrency: no state; functions that change a device are called by one
// goroutine for each network at a time.
//
// Sources: RFC 7348; Documentation/networking/vxlan.rst; bridge(8), ip-link(8).
package overlay
