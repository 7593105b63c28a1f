// Package server is the supervisor: the parent of every container's processes.
// It starts them, moves their input and output, writes their logs, and records
// how they end; it outlives the daemon that asks for all this.
//
// # One loop
//
// A single goroutine waits in epoll_wait(2) and owns all state, so there are no
// locks and no goroutine or buffer per container:
//
//	epoll ─┬─ supervisor.sock ── accept ── conn ── request ── answer
//	       ├─ pidfd ── reap ── drain ── log ── exit record ── Exited
//	       ├─ stdout, stderr, terminal ── one buffer ──┬─ log (one write)
//	       │                                           └─ streams (stdcopy)
//	       ├─ stream ── detach keys ── stdin
//	       ├─ OOM notification ── OOM
//	       └─ eventfd ── results of goroutines
//
// What blocks runs in goroutines whose results come back as functions through
// the mailbox: starts (vfork; Options.Parallel at a time), and operations on
// control groups. Nothing else leaves the loop, and nothing in it waits.
//
// # Life of a container
//
//	Start ──▶ starting ──▶ running ──pidfd──▶ ended ──▶ cleaning ──▶ gone
//	              │                             │ execs, goroutines  │ cgroup
//	              └── failed: Error             └ are waited for     └ removed
//
// A Start with the id of a container that is being cleaned waits for it.
//
// # Invariants
//
//   - Every process that was Started has exactly one Exited, also when its
//     daemon is away: then Welcome tells the next one, until Forget.
//   - When Exited is sent, the log has all output and every client has got it or
//     has it queued; then its stream ends with a FIN.
//   - A client that does not read stops its process's output at Options.MaxQueue
//     bytes, and nothing else. A client that leaves stops nothing. A process that
//     does not read its input stops its client.
//   - Descriptors of containers that the daemon holds, too, are dropped from
//     epoll before they are closed.
//   - A panic in a handler fails its request, or takes its descriptor after the
//     third time, but never the supervisor.
//
// # Crash
//
// When the supervisor is lost, containers run on: the daemon holds duplicates of
// pidfds, pipes and terminals (Started) and gives them to the next supervisor
// (Adopt). When the daemon is lost with it, the next one finds the pipes in the
// container's processes, which hold both ends (keepEnds). Exit records are files in
// <root>/exits on a tmpfs, renamed into place, and are read again. The lock on <root>/supervisor.lock dies with its owner.
//
// Sources: epoll(7), pidfd_open(2), waitid(2), ioctl_pidfd(2), pipe(7), pty(7),
// unix(7), PR_SET_CHILD_SUBREAPER in prctl(2); for the stream's frames the
// Docker API's "Stream format" of ContainerAttach.
package server
