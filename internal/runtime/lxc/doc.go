// Package lxc runs containers with LXC's commands: it translates an OCI
// specification to a configuration file of LXC.
//
//	supervisor                          lxc-start -F (the monitor)
//	  bundle: config, seccomp, root
//	  lxc-start ──────────────────────▶ namespaces, mounts, control groups
//	  process number ◀── start-host hook, the container's process waits
//	  lxc-wait RUNNING|STOPPED ───────▶ its command was executed, or could not be
//	  pidfd of the process              waits for its end
//	                                    stop hook: keeps the count of OOM kills
//	                                    removes the groups
//	  …
//	  waits for the end of the monitor
//
// The container's process is the monitor's child, not the supervisor's; how it
// ends the kernel tells by its pidfd (PIDFD_GET_INFO, Linux 6.15) and the
// monitor in its log. Standard streams are the container's own ones; with a
// terminal the monitor copies between one that we make and LXC's console.
//
// An additional process is started as in a container of our own: lxc-attach
// knows neither a working directory nor supplementary groups. Limits, freezing,
// statistics and the kill go to the control group, signals to the process.
//
// A user namespace is made before, as for other runtimes (package bundle): LXC
// joins it by its path and is told its map, by which it knows that it is to become
// its root. From then on it has no power over the host's directories, so whatever
// it binds is cloned into the bundle, and what it would make in the container's
// root is made for it.
//
// # What LXC cannot do
//
// Check and Config refuse it: sysctls that are not the network's, a domain
// name, a umask, environment variables of more than one line, devices that are
// not on the host, personalities, hooks and namespaces of other kinds.
//
// Sources: lxc.container.conf(5), lxc-start(1), lxc-wait(1); for system call
// filters "SECCOMP CONFIGURATION" in the first.
package lxc
