// Package container is the life of one container: its record, its states, and
// the actor that owns both.
//
// An Actor is a goroutine; only it reads or writes the container's fields.
// Others send it commands and wait for the reply or for their own context.
// Its loop never waits for a process, a timer, the supervisor or the network:
// such work runs in a goroutine of its own and comes back as a command.
// Readers do not enter the mailbox: View returns an immutable record.
//
// Every transition goes through commit: write the record, publish the view,
// tell the event log, in this order. What is asked of the engine (running,
// paused, removed) is written durably before the reply; what was observed (an
// exit) is written without waiting for the disk, because the supervisor's
// record of it on tmpfs outlives this process, and a power cut ends the
// container anyway.
//
//	created ──start──▶ starting ──ok──▶ running ◀──unpause── paused
//	   │                  │               │  └────pause────────▶│
//	   │               failure            │ exit                │ exit
//	   │                  ▼               ▼                     ▼
//	   │            (where it was)     exited ◀──────────────────
//	   │                                  │ policy        ▲ stop
//	   │                                  ▼               │
//	   └──────rm──▶ removing ◀──rm── restarting ──timer──▶ starting
//	                   │ failure
//	                   ▼
//	                 dead ──rm──▶ removing
package container
