// Package selinux speaks of SELinux in the kernel's words: contexts, the
// categories that keep containers apart, and the labels of files.
//
// A context is user:role:type:level. All containers run as one type, which may
// use what is theirs and nothing of the host's; what keeps them from each other
// is the level: a sensitivity and two categories that no other container has
// (multi-category security, MCS). Which types these are is the policy's to say,
// in its file lxc_contexts. A process gets its context at execve(2), from
// /proc/self/attr/exec, which the start program writes (lade/internal/runtime);
// a file system that is made for a container gets it by the mount option
// "context="; what is the host's own is labelled file by file (Relabel).
//
// Sources: the kernel's security/selinux/hooks.c and selinuxfs.c and
// Documentation/admin-guide/LSM/SELinux.rst; selinux(8), mount(8) ("context="),
// proc_pid_attr(5), mcs_selinux(8), selinux_lxc_contexts_path(3).
//
// Levels may be used by many goroutines; the functions keep no state.
package selinux
