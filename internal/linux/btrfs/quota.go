package btrfs

import (
	"os"
	"unsafe"
)

// What is bounded (BTRFS_QGROUP_LIMIT_MAX_RFER, …_EXCL).
const (
	limitReferenced = 1 << 0
	limitExclusive  = 1 << 1
)

// qgroupLimit is btrfs_ioctl_qgroup_limit_args.
type qgroupLimit struct{ group, flags, maxReferenced, maxExclusive, reserved, reservedExclusive uint64 }

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
	return limit(fd, qgroupLimit{group: id, flags: limitExclusive, maxExclusive: most(bytes)})
}

// LimitWhole is Limit for all that the subvolume has, what it shares with others
// included.
func LimitWhole(fd int, id uint64, bytes int64) error {
	return limit(fd, qgroupLimit{group: id, flags: limitReferenced, maxReferenced: most(bytes)})
}

// most is the number for a limit.
func most(bytes int64) uint64 {
	if bytes == 0 {
		return ^uint64(0) // Linux 4.0: "clear value"
	}
	return uint64(bytes)
}

func limit(fd int, a qgroupLimit) error {
	return os.NewSyscallError("BTRFS_IOC_QGROUP_LIMIT", control(fd, iocQgroupLimit, unsafe.Pointer(&a)))
}

// Forget removes the account of a subvolume that was deleted. Kernels from 6.9
// do it themselves. Errors: the chain holds EBUSY while the file system
// is still at deleting.
func Forget(fd int, id uint64) error {
	a := struct{ create, group uint64 }{0, id}
	return os.NewSyscallError("BTRFS_IOC_QGROUP_CREATE", control(fd, iocQgroupCreate, unsafe.Pointer(&a)))
}
