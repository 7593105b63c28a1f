// Package network connects containers: the default bridge and those of networks
// that users create, with their addresses, the namespaces, address translation
// and published ports, and the predefined networks host and none.
//
// What exists in the kernel for one engine, named after its default bridge:
//
//	docker0 ── veth<hash><random> ═ eth0 (in the container's namespace)
//	br-<id> ── veth<hash><random> ═ eth1
//	br-<id> ── vx-<id> (of an overlay network: its hosts, see package overlay)
//	ifb-<hash><random> (of a container with a limit for what it sends)
//	table ip lade_docker0: maps of published ports, NAT and filter chains; with
//	IPv6 also table ip6 lade_docker0
//
//	eth0.50, dm-<id>, di-<id>: parents of macvlan and ipvlan interfaces, which are
//	in the containers' namespaces only (docs/adr/0029)
//
// docs/design/network.md draws the chains and the path of a packet.
//
// A network namespace is taken from a pool that goroutines fill in the
// background: unshare(2), lo up, a veth pair with its host end in the bridge,
// everything but the address, which Connect gives with one netlink message.
// Only file descriptors hold a namespace of the pool, so that it vanishes with
// the process; that of a container lives as long as a process in it. The
// kernel removes the veth pair with the namespace: Release never does. It puts
// a namespace in which nothing was done back into the pool (docs/adr/0011).
//
// A published port is one element of an nftables map. Its number is reserved
// by a socket that is bound and does not listen, so that neither the engine
// nor a program of the host takes it twice.
//
// Networks of other drivers have interfaces that other programs make (foreign):
// plugins of Docker's or CNI's. They are asked in Connect, Attach, Detach and
// Release of containers on such networks, which wait for them, and never for
// others.
//
// Crash behaviour: an endpoint's record is written before Connect returns.
// New makes bridge and table as the records say, in one nftables transaction,
// so that connections through published ports go on; Restore then releases
// what did not survive. Both are idempotent.
//
// Limits of what a container receives and sends are token bucket filters on the
// host's end of its pair, and on an ifb through which that is led which the
// host's end receives (docs/adr/0014).
//
// Concurrency: all methods may be called at any time; calls for one container
// come one after the other. Lock order: books.mu is never held across a
// system call; taken before it, and in this order, are Networks.changing (networks
// are created, removed and mended one after the other), Networks.mending (nothing
// is mended once all is to go), bridge.starting (who makes a pool),
// bridge.repairing (who makes a bridge anew), across.changing (of the device of
// an overlay network) and ipsec.mu (of policies and states). shaper.mu orders
// changes of limits, and is taken before books.mu. firewall.mu orders nftables
// transactions and is taken alone.
//
// These parts of Networks can each be read alone: books (what there is, without a
// call of the kernel), grants (what address plugins gave), holds (what other programs
// made), shaper (limits of links), ipsec (what is encrypted), firewall (the tables),
// ports (what is reserved on the host).
//
// Sources: network_namespaces(7), rtnetlink(7), veth(4),
// Documentation/networking/ip-sysctl.rst (route_localnet, ip_forward),
// https://wiki.nftables.org, Docker's "Packet filtering and firewalls".
package network
