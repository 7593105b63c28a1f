package btrfs

import (
	"encoding/binary"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/sys"
	"lade/internal/trace"
)

// Requests, from linux/btrfs.h.
const (
	iocSubvolCreate  = 0x5000940e // _IOW(0x94, 14, btrfs_ioctl_vol_args)
	iocSnapDestroy   = 0x5000940f // _IOW(0x94, 15, btrfs_ioctl_vol_args)
	iocTreeSearch2   = 0xc0709411 // _IOWR(0x94, 17, btrfs_ioctl_search_args_v2)
	iocSnapCreate2   = 0x50009417 // _IOW(0x94, 23, btrfs_ioctl_vol_args_v2)
	iocQuotaCtl      = 0xc0109428 // _IOWR(0x94, 40, btrfs_ioctl_quota_ctl_args)
	iocQgroupCreate  = 0x4010942a // _IOW(0x94, 42, btrfs_ioctl_qgroup_create_args)
	iocQgroupLimit   = 0x8030942b // _IOR(0x94, 43, btrfs_ioctl_qgroup_limit_args)
	iocRescanWait    = 0x0000942e // _IO(0x94, 46)
	iocGetSubvolInfo = 0x81f8943c // _IOR(0x94, 60, btrfs_ioctl_get_subvol_info_args)
)

// firstInode is the number of a subvolume's top directory
// (BTRFS_FIRST_FREE_OBJECTID), which no other directory of btrfs has.
const firstInode = 256

// volArgs is btrfs_ioctl_vol_args.
type volArgs struct {
	fd   int64
	name [4088]byte
}

// volArgs2 is btrfs_ioctl_vol_args_v2.
type volArgs2 struct {
	fd      int64
	transid uint64
	flags   uint64
	_       [4]uint64
	name    [4040]byte
}

// maxName is the longest name of a subvolume (BTRFS_VOL_NAME_MAX).
const maxName = 255

func control(fd int, request uintptr, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}

func checkName(name string) error {
	if name == "" || len(name) > maxName || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return errdefs.Invalidf("%q cannot be the name of a subvolume", name)
	}
	return nil
}

// Is reports whether the directory behind fd is the top of a subvolume.
func Is(fd int) (bool, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return false, os.NewSyscallError("fstatfs", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, os.NewSyscallError("fstat", err)
	}
	return fs.Type == unix.BTRFS_SUPER_MAGIC && st.Ino == firstInode, nil
}

// Create makes the empty subvolume name in dir, with mode 0777 less the umask.
// Errors: Invalid for a name that cannot be; the chain holds EEXIST, ENOSPC,
// and ENOTTY where the file system is not btrfs.
func Create(dir *os.File, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	var a volArgs
	copy(a.name[:], name)
	sp := trace.Begin(trace.File, "subvolume", dir.Name()+"/"+name)
	err := control(int(dir.Fd()), iocSubvolCreate, unsafe.Pointer(&a))
	runtime.KeepAlive(dir)
	return sp.End(sys.Error("BTRFS_IOC_SUBVOL_CREATE", dir.Name()+"/"+name, err))
}

// Snapshot makes the subvolume name in dir, writable, with what the subvolume
// source holds now. Errors: as Create.
func Snapshot(source, dir *os.File, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	a := volArgs2{fd: int64(source.Fd())}
	copy(a.name[:], name)
	sp := trace.Begin(trace.File, "snapshot", dir.Name()+"/"+name)
	err := control(int(dir.Fd()), iocSnapCreate2, unsafe.Pointer(&a))
	runtime.KeepAlive(source)
	runtime.KeepAlive(dir)
	return sp.End(sys.Error("BTRFS_IOC_SNAP_CREATE_V2", dir.Name()+"/"+name, err))
}

// Destroy deletes the subvolume name of dir with all that is in it, at once;
// the file system frees the space in the background. Errors: the chain holds
// ENOENT, ENOTEMPTY if another subvolume is in it, and EINVAL if name is none.
func Destroy(dir *os.File, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	var a volArgs
	copy(a.name[:], name)
	sp := trace.Begin(trace.File, "subvolume destroy", dir.Name()+"/"+name)
	err := control(int(dir.Fd()), iocSnapDestroy, unsafe.Pointer(&a))
	runtime.KeepAlive(dir)
	return sp.End(sys.Error("BTRFS_IOC_SNAP_DESTROY", dir.Name()+"/"+name, err))
}

// Info is what a subvolume's root item tells.
type Info struct {
	ID      uint64 // of its tree; no other one has or had it
	Created uint64 // the transaction that made it
}

// Offsets in btrfs_ioctl_get_subvol_info_args, which has 504 bytes.
const (
	infoSize     = 504
	infoTree     = 0
	infoOtransid = 352
)

// Describe tells of the subvolume that fd lies in (Linux 4.18).
func Describe(fd int) (Info, error) {
	var b [infoSize]byte
	if err := control(fd, iocGetSubvolInfo, unsafe.Pointer(&b)); err != nil {
		return Info{}, os.NewSyscallError("BTRFS_IOC_GET_SUBVOL_INFO", err)
	}
	return Info{ID: binary.NativeEndian.Uint64(b[infoTree:]), Created: binary.NativeEndian.Uint64(b[infoOtransid:])}, nil
}
