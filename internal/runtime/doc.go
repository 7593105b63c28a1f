// Package runtime starts containers: it compiles an OCI runtime spec into a
// flat program of system calls (lade/internal/program) and runs it.
//
// Sources: the OCI runtime-spec (config.md, config-linux.md, runtime-linux.md),
// namespaces(7), pid_namespaces(7), mount_setattr(2), move_mount(2), openat2(2),
// pivot_root(2), capabilities(7), seccomp(2), seccomp_unotify(2), pty(7).
//
// # How a start goes
//
//	caller                              child, on the caller's memory
//	  resolve bind sources, overlay,      program: attach cgroups, join net,
//	  cgroup, terminal; compile      ──►  move the root on "/", mount, mask,
//	  the program                         chroot, drop, execve
//	  collect pid, pidfd, times      ◄──  vfork returns
//
// Host paths are opened by the caller: the child begins with a copy of a mount
// namespace (ns.Empty) that has no file system but an empty one. Everything below the container's root is resolved by
// openat2(RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS) on file descriptors, and every
// descriptor of the host is closed before the first path that the container
// controls without that protection (its working directory, its program).
//
// # Invariants
//
//   - The process that uses a Launcher is not dumpable (PR_SET_DUMPABLE=0):
//     between clone3 and execve the child shares its memory, and a process of
//     the container may look at it through /proc.
//   - The engine's own binary cannot be written to from inside (Shield), and is
//     no command there.
//   - Where a process of the container may trace, nothing of the engine is seen
//     in its process namespace (guard.go).
//   - A failed start leaves no process, mount or descriptor. The control group
//     is removed when the start created it.
//
// # Concurrency
//
// A Launcher may be used by many goroutines; Options.Threads starts run at the
// same time, others wait. Restock runs beside them; the locks of the stock are
// taken in the order making, mu, and not held over a start. A Process is not
// shared: its reader owns its descriptors.
//
// # Crashes
//
// Nothing is kept on disk. A process that dies in the middle of a start takes
// the half-started child with it only if the child has not been cloned yet; the
// recovery of the caller kills what is in the container's control group.
package runtime
