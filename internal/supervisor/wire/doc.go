// Package wire is the protocol between laded and lade-supervisor: versioned
// frames over a unix SOCK_SEQPACKET socket, file descriptors by SCM_RIGHTS.
//
// # Frame
//
// One packet is one frame: a header of 16 bytes, little endian, and a body in
// JSON. docs/design/supervisor-protocol.md describes it for other programs.
//
//	 0        4   5   6      8         12        16
//	+--------+---+---+------+---------+---------+------------+
//	| "lade" | v | f | type | request | length  | body …     |
//	+--------+---+---+------+---------+---------+------------+
//
// v is Version. The request number is chosen by the daemon and repeated in the
// answer; events carry 0. With bit 0 of f set the body is not in the packet but
// in a memfd_create(2) file, sealed against every change, which is the last
// descriptor of the packet: so travel bodies longer than Inline. A field of
// type FD in the body is an index, from 1, into the packet's descriptors.
//
// # Sequences
//
//	daemon                                supervisor
//	  | Hello{version}                        |
//	  |-------------------------------------->|
//	  |   Welcome{pid, containers, exits}     |   replayed until Forget
//	  |<--------------------------------------|
//	  | PutFilter{digest, code}               |   once per filter
//	  |-------------------------------------->|
//	  |                                   OK  |
//	  |<--------------------------------------|
//	  | Start{spec, rootfs, log, attach} +fds |   netns, clients' sockets
//	  |-------------------------------------->|   clone3 … execve
//	  |   Started{pid, pidfd, console…} +fds  |   duplicates for the daemon
//	  |<--------------------------------------|
//	  | Exec, Attach, Signal, Resize, Freeze… |
//	  |-------------------------------------->|
//	  |          Started, OK or Error{kind}   |
//	  |<--------------------------------------|
//	  |                           OOM{id}     |   event, any time
//	  |<--------------------------------------|
//	  |                           Exited{id}  |   event, after log and streams
//	  |<--------------------------------------|   got the output
//	  | Forget{id}                            |   the daemon's record is durable
//	  |-------------------------------------->|   the exit record is removed
//	  |                                   OK  |
//	  |<--------------------------------------|
//
// Requests are pipelined and answered in any order. A daemon that disconnects
// cancels nothing; the next one learns from Welcome what happened meanwhile.
// After a lost supervisor the daemon gives Adopt, with the descriptors of
// Started, to a new one.
//
// Concurrency: Send and Receive may be called at the same time; two concurrent
// calls of either need a lock of the caller's, because buffers are shared.
//
// Sources: unix(7), memfd_create(2), fcntl(2) "File Sealing".
package wire
