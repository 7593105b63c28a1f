// Package netlink speaks netlink(7): requests of several messages in one
// sendmsg(2), their acknowledgements, dumps and notifications; and the few
// rtnetlink(7) messages that networks of containers need: links (bridge, veth,
// macvlan, ipvlan, vlan, …), addresses, routes, the numbers of namespaces.
//
//	request:  message, message, …            one datagram, handled in order
//	message:  length u32 | type u16 | flags u16 | sequence u32 | port u32
//	          fixed header of the type | attribute, attribute, …
//	attribute: length u16 | type u16 | value | padding to 4
//
// A Conn belongs to the network namespace of the thread that called Dial, for
// ever: no later call needs to enter the namespace.
//
// Only the last message of a request asks for an acknowledgement; the kernel
// reports the error of any message without being asked, and handles them in
// order before sendmsg returns, so one answer settles all. A message that fails
// does not stop those after it.
//
// Concurrency: a Conn may be used by several goroutines; its mutex is held
// while the kernel works. A Request is used by one.
//
// Sources: netlink(7), rtnetlink(7), Documentation/userspace-api/netlink/,
// include/uapi/linux/{netlink,rtnetlink,if_link,if_bridge,veth}.h.
package netlink
