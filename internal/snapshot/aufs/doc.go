// Package aufs keeps snapshots as branches that aufs stacks: a snapshot.Dirs
// (see there for the form on disk, concurrency and crashes) whose directories
// hold
//
//	fs    what the snapshot itself has: a branch, with aufs's whiteouts
//	mnt   where the union of it and those below is mounted
//
// The kernels of kernel.org have no aufs; Debian (aufs-dkms) and some others
// add it. A snapshot's directory is its union, so that aufs itself writes the
// whiteouts: a file ".wh.NAME" hides NAME in the branches below, and
// ".wh..wh..opq" in a directory all that they have there. Names that begin with
// ".wh..wh." are aufs's own.
//
// Not every union can be mounted by one call: mount(2) takes a page of options,
// and aufs has room for as many at a time as fit into a page of its own. The
// branches that are left over are appended by remounts.
//
// Sources: aufs(5), "Mount Options", "Branch Syntax" and "Whiteout"; aufs's
// fs/aufs/opts.c.
package aufs
