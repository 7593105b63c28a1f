// Package socket reserves ports of the host: by a socket that is bound and serves
// nothing (Reserve), or by one for a program that serves it (Listen).
//
// For TCP a reserved one does not listen: another bind to the port fails with
// EADDRINUSE, while a connection that reaches it is refused, as for any port
// that nobody serves.
//
// Sources: bind(2), socket(7) (SO_REUSEADDR), tcp(7), udp(7).
package socket
