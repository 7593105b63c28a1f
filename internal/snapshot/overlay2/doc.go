// Package overlay2 keeps snapshots as directories that overlayfs stacks: a
// snapshot.Dirs (see there for the form on disk, concurrency and crashes) whose
// directories hold
//
//	fs     what the snapshot itself has: an overlay's upperdir, a layer
//	work   the overlay's workdir, of active snapshots
//
// The ids that Dirs gives to directories are short, so that the lower
// directories of a deep stack fit into the one page of options that mount(2)
// takes: relative to <root>/s each needs about seven bytes.
//
// Sources: Linux Documentation/filesystems/overlayfs.rst, mount(2) ("data … one
// page").
package overlay2
