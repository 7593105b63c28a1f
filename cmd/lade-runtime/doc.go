// Command lade-runtime starts OCI bundles with the command line that containerd,
// Podman and Docker expect of a runtime (runc's verbs):
//
//	lade-runtime [--root DIR] [--log FILE] [--log-format text|json] VERB …
//
// Sources: the OCI runtime-spec (runtime.md); the behaviour of runc 1.x where
// the specification leaves the command line open.
//
// A created container is a process that waits for a byte in the fifo
// ROOT/ID/exec.fifo, which start writes. ROOT/ID/state.json says which process,
// with its start time, so that another process of the same number is never
// taken for it. ROOT/ID is made exclusively: that is the lock against a second
// container of the same id. Nothing else is kept; what is observed (running,
// paused, stopped) is read from the kernel.
package main
