package btrfs

import (
	"os"
	"unsafe"
)

// limitExclusive is BTRFS_QGROUP_LIMIT_MAX_EXCL.
const limitExclusive = 1 << 1

// EnableQuota turns the accounting of subvolumes on for the whole file system
// and waits until what is there is counted. It costs time on every change of
// an extent, and lasts until somebody turns it off. It is idempotent.
//
// Source: btrfs-quota(8).
func EnableQuota(fd int) error {
	a := struct{ cmd, status uint64 }{cmd: 1} // BTRFS_QUOTA_CTL_ENABLE
	if err := control(fd, iocQuotaCtl, unsafe.Pointer(&a)); err != nil {
		return os.NewSyscallError("BTRFS_IOC_QUOTA_CTL", err)
	}
	// The kernel counts by itself after that; without a count nothing to wait for.
	return os.NewSyscallError("BTRFS_IOC_QUOTA_RESCAN_WAIT", control(fd, iocRescanWait, nil))
}

// Limit bounds what the subvolume id, of the file system that fd lies in, may
// have for itself; 0 lifts the limit. Writing more gives EDQUOT. The accounting
// must be on; else the chain holds ENOTCONN or ENOENT.
func Limit(fd int, id uint64, bytes int64) error {
	a := struct{ group, flags, maxRef, maxExcl, rsvRef, rsvExcl uint64 }{group: id, flags: limitExclusive, maxExcl: uint64(bytes)}
	if bytes == 0 {
		a.maxExcl = ^uint64(0) // Linux 4.0: "clear value"
	}
	return os.NewSyscallError("BTRFS_IOC_QGROUP_LIMIT", control(fd, iocQgroupLimit, unsafe.Pointer(&a)))
}

// Forget removes the account of a subvolume that was deleted. Kernels from 6.9
// do it themselves. Errors: the chain holds EBUSY while the file system
// is still at deleting.
func Forget(fd int, id uint64) error {
	a := struct{ create, group uint64 }{0, id}
	return os.NewSyscallError("BTRFS_IOC_QGROUP_CREATE", control(fd, iocQgroupCreate, unsafe.Pointer(&a)))
}
