// Package zfs keeps snapshots as datasets of ZFS: a snapshot.Dirs (see there for
// the records, concurrency and crashes) on whose directories "fs" the datasets
// are mounted.
//
//	<root>/dataset          name of the dataset that all of ours lie below
//	<root>/s/<bucket>/<id>/fs   mount point of <that dataset>/<id>
//
// A committed snapshot has the ZFS snapshot @committed, and what lies on it
// begins as a clone of that. A snapshot's directory must be written with
// layer.Delete: deletions are carried out. A dataset is mounted when it is asked
// for: see snapshot.Mounts. A limit is the property quota, which counts what a
// dataset does not share.
//
// The kernel's part of ZFS has no stable interface; zfs(8) is what its authors
// document and keep, so this driver runs it, and zpool(8) for info (docs/adr/
// 0025). With the driver's process its commands end, and each can be repeated:
// a dataset that is there already is what a crash left.
//
// Sources: zfs(8), zfs-create(8), zfs-clone(8), zfs-snapshot(8),
// zfs-destroy(8), zfsprops(7), zpool-list(8).
package zfs
