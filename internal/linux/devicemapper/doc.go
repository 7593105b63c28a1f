// Package devicemapper makes, changes and removes block devices of the device
// mapper, by ioctls on /dev/mapper/control: no dmsetup, no library, no udev.
//
// A device has a name and a table: lines that say which target answers for
// which sectors. A table is loaded first and takes effect by Resume:
//
//	Create ── Load ── Resume ──▶ /dev/dm-N ── Suspend ── Load ── Resume …
//	                                      └── Remove
//
// Nodes are those of devtmpfs, /dev/dm-N; udev is told to leave the devices
// alone, so that it has none open when one is to be removed.
//
// A Control may be used by many goroutines.
//
// Sources: Linux include/uapi/linux/dm-ioctl.h, drivers/md/dm-ioctl.c;
// Documentation/admin-guide/device-mapper/thin-provisioning.rst.
package devicemapper
