// Package devicemapper keeps snapshots as thin devices of the device mapper,
// each with a file system of its own: a snapshot.Dirs (see there for the records,
// concurrency and crashes) on whose directories "fs" the devices are mounted.
//
//	<root>/data, metadata   what the pool is made of, sparse files, unless
//	                        dm.thinpooldev names a pool
//	<root>/base             the file system of device 0, once it is made (JSON)
//	<root>/s/<bucket>/<id>/ fs    mount point of thin device <id>
//	                        size  bytes of the device, if not the base's
//
// Device 0 is an empty file system, which is made once with mkfs. A snapshot
// without a parent is a thin snapshot of it, another one of the parent's device;
// the number of the device is that of the snapshot's directory. The pool writes
// its metadata before it answers a message, so when a record appears its device
// is durable, and a device without a record is one whose directory has none,
// too, and is deleted with that.
//
// A snapshot's directory must be written with layer.Delete: deletions are
// carried out. A device is active while it is mounted: see snapshot.Mounts. A
// daemon that was killed leaves them so, and the next one finds them by name.
//
// Sources: Linux Documentation/admin-guide/device-mapper/
// thin-provisioning.rst; ext4(5), xfs(5).
package devicemapper
