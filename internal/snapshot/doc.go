// Package snapshot keeps the file systems of containers and images as stacks
// of layers. A driver (overlay2, vfs, …) implements Snapshotter, and passes
// the suite of snapshottest.
//
// A snapshot is active (writable, of one container), or committed (read-only,
// a layer of an image, parent of others). Its key is its name: the ChainID's
// hexadecimal digits for a committed layer, the container's id for an active
// one.
//
//	Prepare(key, parent) ──▶ active ──Commit(new key)──▶ committed ◀── parent of others
//	                           └──────────── Remove ────────┘ (no children)
//
// Where the driver allows it (Rebases) an active snapshot without a parent can
// be put on one when it is committed (CommitOn): layers need not wait for those
// below to be unpacked.
//
// Dirs is what drivers share that keep snapshots as directories: the records,
// their durability and the deletion in the background. ProbeOverlay and
// Default find out which driver a machine can use.
//
// Invariants: a committed snapshot never changes and is on disk; a parent is
// committed and exists as long as its children; nothing is deleted that has a
// record.
//
// Sources: Linux Documentation/filesystems/overlayfs.rst; the terms are
// containerd's.
package snapshot
