// Package relay sends the logs of containers over TLS for the supervisor, which
// links no TLS: a process of its own, one for all containers, that is there while
// one of them needs it. The protocol is in supervisor/wire, relay.go.
//
// The relay keeps nothing: what it has read and the target's kernel does not have
// yet is the supervisor's to send again when the relay is lost. It tells how much
// the target's kernel has acknowledged (SIOCOUTQ), as the supervisor itself finds
// out for targets without TLS.
//
// Sources: RFC 5425 (syslog over TLS), the Fluentd forward protocol; tcp(7).
//
// Concurrency: three goroutines for a connection, which end with it.
package relay
