// Package supervisor is the daemon's side of the supervisor: it starts one when
// none answers and speaks its protocol.
//
// A Client is safe for concurrent use; requests are pipelined and answered in
// any order. A context ends the waiting for an answer, never the work that was
// asked for. Two goroutines belong to a Client, one that receives and one that
// calls the Handler; both end with Close or with the connection.
//
// When the supervisor is gone every request fails with Unavailable and the
// Handler learns it by Lost; the daemon then calls Connect again and hands its
// running containers over by Adopt.
//
// The protocol: package wire and docs/design/supervisor-protocol.md.
package supervisor
