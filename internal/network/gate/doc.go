// Package gate publishes ports by a socket of the host instead of by address
// translation: a client's packets pass the host's INPUT rules as for any other
// server, and only then does the gate carry the connection into a container.
//
//	client ──► host's INPUT ──► listening socket ──► lade-gate ──► container
//	                                            splice(2)   from the client's address
//
// The package is both sides: Serve is the program lade-gate, one for an engine
// and only while there are ports that need it; Client is the daemon's side.
//
// # Who holds what
//
// The daemon makes the listening sockets, so that a port that is taken is refused
// before anything has begun, and hands a duplicate of each to the gate. So
// neither's end closes a port: a daemon that starts gets the duplicates back
// (Connect), and a gate that ended is started again with them; clients wait in
// the socket's backlog meanwhile.
//
// A gate of another build is retired: it takes no connection any more, and ends
// after its last one. Before that a new one has all its ports. So at every moment a
// gate has them, whoever is killed:
//
//	start   new gate, at gate-next.sock      daemon gone: it ends, the old one serves
//	Open    every port                       the same
//	Retire  the old gate: gate.sock is free  daemon gone: the new one serves, and the
//	Take    gate-next.sock is gate.sock      next daemon finds it at gate-next.sock
//
// # The client's address
//
// The connection to the container is made from the host's namespace with the
// client's address and port (IP_TRANSPARENT), so the container sees who is
// there. Answers to that address leave the container by its default route, reach
// the host and must get to the gate's socket: the firewall notes Port.Mark of the
// gate's packets in the connection, marks what belongs to it, and a rule of the
// host's routing sends what is marked to the host itself (internal/network,
// gated.go). Where that cannot be the address is the host's in the container's
// network: for clients on the loopback interface, in the container's own subnet
// (it would answer them directly), with a link-local address, of another family,
// and where there are no rules (Port.Mark is 0).
//
// # Protocol
//
// A unix SOCK_SEQPACKET socket, gate.sock; each packet is one message in JSON,
// descriptors by SCM_RIGHTS. The gate answers each request in turn.
//
//	Hello              →  the build
//	List               →  a message for each port, with its socket; then an empty one
//	Open{Port} +socket →  empty, or an error; without a socket the port is changed
//	Close{Port}        →  empty
//	Retire             →  empty; gate.sock is free for another gate
//	Take               →  empty; gate-next.sock is gate.sock
//
// Concurrency: all exported functions and methods may be called at any time.
//
// Sources: ip(7) (IP_TRANSPARENT, IP_PKTINFO), splice(2), unix(7), the kernel's
// Documentation/networking/tproxy.rst; timeouts of datagrams as in
// Documentation/networking/nf_conntrack-sysctl.rst.
package gate
