// Package external runs containers with another OCI runtime: runc, crun, runsc,
// lade-runtime, or whatever has their command line.
//
//	supervisor                        runtime                  container
//	  bundle: config.json, root
//	  create --bundle --pid-file ──▶  namespaces, … ─────────▶ process, waits
//	  terminal ◀── console socket ──  ends; its child is ours
//	  pidfd of the process
//	  start ────────────────────────▶ tells it to go on ─────▶ command
//	  …
//	  exec --detach --pid-file ─────▶ ───────────────────────▶ another process
//	  kill, pause, resume, update ──▶
//	  delete --force ───────────────▶ state, control group
//
// The supervisor is a subreaper (PR_SET_CHILD_SUBREAPER in prctl(2)): when the
// runtime's command ends, the process that it has made becomes the supervisor's
// child, and is supervised as one that the supervisor has made itself. Its
// control group is where the specification says, so it is frozen, limited,
// measured and killed in the same way, too; a runtime that makes none
// (rootless, gVisor without them) is asked by its verbs.
//
// What the runtime does not know is done before: the user is looked up, the
// network namespace is named by a path, lade-init is mounted. See package
// bundle for that and for crashes.
//
// Sources: the OCI runtime-spec, runtime.md ("Lifecycle"); the OCI runtime
// command line interface, https://github.com/opencontainers/runtime-tools,
// docs/command-line-interface.md; runc(8), runc-create(8), runc-exec(8),
// runc-update(8), crun(1).
//
// # Concurrency
//
// Start is called once and first; the rest by any goroutine.
package external
