// Command lade-runtime starts OCI bundles with the command line that containerd,
// Podman and Docker expect of a runtime (runc's verbs):
//
//	lade-runtime [--root DIR] [--log FILE] [--log-format text|json] VERB …
//
// Sources: the OCI runtime-spec (runtime.md, config.md "POSIX-platform Hooks",
// features.md); the behaviour of runc 1.x where the specification leaves the
// command line open.
//
// # What is kept
//
//	ROOT/ID/             made exclusively: the lock against a second container
//	ROOT/ID/state.json   lines: the configuration as create found it, then states,
//	                     the last of which counts; without one there is no container
//	ROOT/ID/exec.fifo    a created container reads from it, start writes
//
// state.json is there before anything that delete would have to remove, and
// names the control group that all of it is in. It says which process is the
// first, with its start time, so that another process of the same number is
// never taken for it. What a container does (created, running, paused, stopped)
// is read from the kernel.
//
// # Concurrency and crashes
//
// Verbs are programs that know nothing of each other. start and delete hold
// flock(2) on ROOT/ID; every verb may be killed at any point (TestKilledAtEveryPoint).
// docs/adr/0016-lade-runtime-state.md has the reasons.
package main
