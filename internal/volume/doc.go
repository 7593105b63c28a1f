// Package volume keeps data that outlives containers: named directories below
// the data root (driver "local"), each with a record.
//
// A volume is created by writing its record durably and then its directory;
// use without a record is impossible, a record without a directory is mended
// at the next use. It is removed in the other order, the files in the
// background from a trash directory that New clears.
//
// A volume with a device is mounted on its directory while a container runs that
// uses it (Mount, Unmount, Recover); its directory is never deleted with a mount
// in it. Clone, Import, Rename and Export are what Docker does not have;
// docs/design/storage.md has the order of their steps.
//
// Concurrency: one mutex guards the table; it is not held during I/O on files.
// Whoever uses a volume holds a reference by container id; a volume with
// references is not removed. References are not persisted: the engine makes
// them anew from the containers' records. Who mounts or unmounts a volume has its
// turn, which is waited for with a context, as a file server may not answer.
//
// Sources: mount(8), fsopen(2), move_mount(2), umount2(2), ioctl_ficlone(2);
// btrfs-quota(8); the Docker Engine API, VolumeCreate.
package volume
