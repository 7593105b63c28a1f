// Package program runs flat programs: an array of system calls that a child of
// clone3(2) interprets with a few dozen instructions of assembly, usually
// ending in execve(2). No Go code runs in the child.
//
// Sources: clone(2), clone_args in include/uapi/linux/sched.h, vfork(2),
// setns(2), openat2(2), syscall(2); Documentation in the kernel's
// fork.c and namespaces.c as named at the places that depend on it.
//
//	caller                                   child
//	  block all signals
//	  [setns into the pid namespace]
//	  clone3(CLONE_VM|CLONE_VFORK|…) ──────► for each op:
//	        ┊ suspended by the kernel           progress = op
//	        ┊                                   result = syscall(op)
//	        ┊                                   failed, not allowed: report, exit
//	        ┊                                   patch result into later ops
//	        ┊                                   op.time = clock
//	  [setns back]         ◄─────────────────  execve or exit releases the caller
//	  unblock signals
//
// A program lives in an arena, memory of mmap(2) that the garbage collector
// does not know. The failed op, its errno and a time stamp of every op are
// found there afterwards.
//
// Series is the same without a child: system calls that the calling thread makes
// with no Go code in between.
//
// # Invariants
//
//   - CLONE_VM is never used without CLONE_VFORK: the kernel exempts only a
//     vforked child from counting as the caller's memory user when it kills for
//     memory or changes oom_score_adj.
//   - The caller is not dumpable (PR_SET_DUMPABLE=0) when the program enters
//     namespaces that others live in: until execve they could read the caller's
//     memory through /proc. The package cannot check that.
//   - Ops act on what belongs to the task, not to the memory it shares: never
//     prctl(PR_SET_DUMPABLE, PR_SET_MM, PR_SET_THP_DISABLE, PR_SET_MDWE), mmap,
//     brk, madvise.
//   - The caller must not ignore signals (SIG_IGN survives CLONE_CLEAR_SIGHAND
//     and execve).
//
// # Concurrency
//
// A Program belongs to one goroutine at a time. Run blocks its thread until the
// child has executed or ended; for the Go scheduler it is a system call, so
// neither other goroutines nor the garbage collector wait.
//
// # Crashes
//
// A child that was cloned goes on when its caller dies: with CLONE_VM it keeps
// the memory until execve.
package program
