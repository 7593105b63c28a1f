// Package btrfs keeps snapshots as subvolumes of btrfs: a snapshot.Dirs (see
// there for the form on disk, concurrency and crashes) whose directories hold
// the subvolume "fs". One on top of a parent begins as a snapshot of the
// parent's, which takes as long whatever is in it, and shares all that neither
// changes; so there are no layers to look through when a container runs.
//
// A snapshot's directory must be written with layer.Delete: deletions are
// carried out. The data root must be on btrfs. A limit is one of the qgroup of
// the subvolume, on what it does not share; accounting is turned on for the
// whole file system when the first limit is asked for.
//
// A process in a container may make subvolumes inside of its own, as btrfs lets
// everybody who may write to a directory. These are deleted with it, file by
// file; they have accounts of their own, which the limit does not cover.
//
// Sources: btrfs(5), btrfs-subvolume(8), btrfs-quota(8).
package btrfs
