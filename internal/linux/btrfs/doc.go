// Package btrfs makes, snapshots, measures, bounds and deletes subvolumes of a
// btrfs file system, by ioctls on open directories. No program is run.
//
// A subvolume looks like a directory and is a tree of its own: a snapshot of it
// shares everything with it until one of the two is written to. Every new tree
// is a transaction that the file system commits at once, so a subvolume that
// was made is also on disk.
//
// The functions keep no state and may be called from many goroutines. They need
// CAP_SYS_ADMIN, save those that make.
//
// Sources: Linux include/uapi/linux/btrfs.h and btrfs_tree.h; btrfs-ioctl(2) of
// btrfs-progs; btrfs-subvolume(8), btrfs-quota(8).
package btrfs
