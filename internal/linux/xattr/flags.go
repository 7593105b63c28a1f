package xattr

import (
	"os"

	"golang.org/x/sys/unix"
)

// topDir is FS_TOPDIR_FL of linux/fs.h.
const topDir = 0x00020000

// SetTopDir tells the file system that the subdirectories of dir have nothing
// to do with each other, so that it need not put them side by side (ext4 puts
// each into a block group of its own). File systems without that flag say so;
// see Unsupported.
//
// Source: ioctl_iflags(2), FS_TOPDIR_FL.
func SetTopDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	fd := int(f.Fd())
	// The kernel reads and writes an int here, whatever the request's name says.
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		if err == unix.ENOTTY {
			err = unix.EOPNOTSUPP
		}
		return os.NewSyscallError("FS_IOC_GETFLAGS", err)
	}
	return os.NewSyscallError("FS_IOC_SETFLAGS", unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags&0xffffffff|topDir))
}
