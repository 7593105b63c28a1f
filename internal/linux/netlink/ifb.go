package netlink

import "golang.org/x/sys/unix"

// AddIFB creates an intermediate functional block, an interface that gives what
// is redirected to it back after its queueing discipline. It is down: to replace
// the discipline of an interface that is up, the kernel waits for an RCU grace
// period, 7 ms and more. Errors of the request: EOPNOTSUPP when it has none.
//
// Source: drivers/net/ifb.c.
func (r *Request) AddIFB(name string) {
	r.Message(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	r.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	r.String(unix.IFLA_IFNAME, name)
	r.Uint32(unix.IFLA_NUM_TX_QUEUES, 1)
	r.Uint32(unix.IFLA_NUM_RX_QUEUES, 1)
	info := r.Nest(unix.IFLA_LINKINFO)
	r.String(unix.IFLA_INFO_KIND, "ifb")
	r.End(info)
}
