// Package socket reserves ports of the host: a socket that is bound and serves
// nothing.
//
// For TCP such a socket does not listen: another bind to the port fails with
// EADDRINUSE, while a connection that reaches it is refused, as for any port
// that nobody serves.
//
// Sources: bind(2), socket(7) (SO_REUSEADDR), tcp(7), udp(7).
package socket
