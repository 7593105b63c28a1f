// Package cgroup makes, limits, watches, stops and removes control groups,
// on hosts with version 1, version 2 or both (the hybrid layout).
//
// A [Group] is one path, such as /docker/<id>, in every mounted hierarchy. It
// holds no file descriptors, so that a thousand of them cost nothing; files are
// opened relative to the mount points' descriptors, which [Host] keeps.
//
// What is used for what:
//
//	                      v1                hybrid             v2
//	limits                v1 files          v1 files           v2 files
//	devices               devices.allow     devices.allow      eBPF program
//	attach a new process  write to tasks    tasks + clone3     clone3
//	kill                  freeze+kill+thaw  cgroup.kill        cgroup.kill
//	freeze                freezer.state     cgroup.freeze      cgroup.freeze
//	wait until empty      timer             cgroup.events      cgroup.events
//
// Invariants: Create writes only what is asked; it removes what it made when
// it fails. A controller that the host does not have is an error only when a
// limit of it is asked. In a v1 cpuset hierarchy every group has cpus and mems.
//
// Writing to v1 cgroup.procs takes a lock that costs an RCU grace period
// (about 10 ms); a new process that writes "0" to tasks does not take it. That
// is why [Group.AttachFDs] exists and why [Group.Add] is for rare use.
//
// Concurrency: a Host may be used by many goroutines. A Group has no state of
// its own; who calls Update, Freeze and Delete of the same group serialises
// them. After a crash a Group is found again by Open; Create replaces an empty
// leftover.
//
// Sources: cgroups(7); the kernel's Documentation/admin-guide/cgroup-v1/*.rst
// and cgroup-v2.rst; clone(2) CLONE_INTO_CGROUP; bpf(2) BPF_PROG_TYPE_CGROUP_DEVICE;
// the OCI runtime specification, config-linux.md, "Control groups".
package cgroup
