// Package bundle prepares what runtimes of others need to run a container: a
// directory with its files, its root mounted where only they see it, and a
// socket for its terminal.
//
//	<root>/bundles/<container>/
//	    runtime.json   which runtime it is, how it is called
//	    started        there once the container's command was started
//	    ids.json       the map of a user namespace, if it has one
//	    config.json …  what the runtime reads
//	    rootfs/        empty; the root is mounted on it for the runtime alone
//	    state/         what the runtime keeps of it
//
// # The root
//
// The root is mounted in a copy of the mount namespace that is made for the one
// command of the runtime which creates the container (Attached). The container
// then has a copy of that, and when its last process ends the mount goes with it:
// nothing is mounted on the host, whoever is killed at whatever moment.
//
// # Crashes
//
// The directory is on a tmpfs and tells a later supervisor which runtime a
// container has. It is written before the runtime is called for the first time
// and removed, by Remove, after it was called for the last time.
//
// Sources: the OCI runtime-spec, bundle.md; runc's docs/terminals.md for the
// protocol of the console socket; mount_namespaces(7); unix(7).
//
// # Concurrency
//
// A Bundle is used by one goroutine at a time, except that Run may be called by
// several.
package bundle
