package quota

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/sys"
	"lade/internal/trace"
)

// Commands of quotactl, as QCMD(cmd, PRJQUOTA) makes them of linux/quota.h and
// linux/dqblk_xfs.h. The generic ones work for XFS, too.
const (
	project  = 2 // PRJQUOTA
	getQuota = 0x800007<<8 | project
	setQuota = 0x800008<<8 | project
	getNext  = 0x800009<<8 | project
	getState = ('X'<<8|5)<<8 | project // Q_XGETQSTAT
)

// Bits of fs_quota_stat.qs_flags.
const (
	accounted = 1 << 4 // FS_QUOTA_PDQ_ACCT
	enforced  = 1 << 5 // FS_QUOTA_PDQ_ENFD
)

// block is the unit of limits (QIF_DQBLKSIZE), in bytes.
const block = 1 << 10

// first is the smallest number of a project of ours.
const first = 1 << 30

// dqblk is if_dqblk, or if_nextdqblk, where id is meant.
type dqblk struct {
	hardBlocks, softBlocks, bytes  uint64
	hardInodes, softInodes, inodes uint64
	blockGrace, inodeGrace         uint64
	valid, id                      uint32
}

const limitsValid = 1 // QIF_BLIMITS

// attributes is fsxattr of linux/fs.h.
type attributes struct {
	flags, extent, extents, project, cow uint32
	_                                    [8]byte
}

const (
	iocGetAttributes = 0x801c581f // FS_IOC_FSGETXATTR, _IOR('X', 31, fsxattr)
	iocSetAttributes = 0x401c5820 // FS_IOC_FSSETXATTR, _IOW('X', 32, fsxattr)
	inherit          = 0x200      // FS_XFLAG_PROJINHERIT
	inheritZFS       = 0x20000000 // the same in OpenZFS 2.1, which takes FS_PROJINHERIT_FL for it
)

func quotactl(fd int, cmd uint32, id uint32, addr unsafe.Pointer) error {
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, uintptr(fd), uintptr(cmd), uintptr(id), uintptr(addr), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// Check tells whether directories on the file system of dir can be bounded.
// Errors: Unavailable with the reason why not.
func Check(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return sys.Error("open", dir, err)
	}
	defer sys.CloseAll(fd)
	var state struct { // fs_quota_stat
		version int8
		flags   uint16
		_       [96]byte // the rest, and room
	}
	err = quotactl(fd, getState, 0, unsafe.Pointer(&state))
	switch {
	case err == unix.ENOSYS && !supported():
		return errdefs.Unavailablef("project quotas need Linux 5.14 (quotactl_fd)")
	case err != nil || state.flags&accounted == 0:
		return errdefs.Unavailablef("the file system of %s has no project quota; it must be ext4, made with -O quota,project, or XFS, and be mounted with prjquota", dir)
	case state.flags&enforced == 0:
		return errdefs.Unavailablef("the file system of %s does not enforce project quotas; it must be mounted with prjquota", dir)
	}
	return nil
}

// supported reports whether the kernel has quotactl_fd at all.
func supported() bool { return quotactl(-1, getQuota, 0, nil) != unix.ENOSYS }

// numbers is held while a number of a project is found and taken.
var numbers sync.Mutex

// Bound limits the directory dir, and all that is in it or will be made there,
// to so many bytes, rounded up to 1 KiB. A directory that is bounded already
// keeps its project and gets the new limit.
//
// Errors: Unavailable if the file system cannot; see Check.
func Bound(dir string, bytes int64) error {
	if bytes <= 0 {
		return errdefs.Invalidf("a limit of %d bytes is none", bytes)
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	fd := int(f.Fd())
	id, err := projectOf(fd)
	if err != nil {
		return err
	}
	sp := trace.Begin(trace.File, "quota", dir)
	if id != 0 {
		return sp.End(limit(fd, id, bytes))
	}
	if err := Check(dir); err != nil {
		return sp.End(err)
	}
	if id, err = take(f, bytes); err != nil {
		return sp.End(err)
	}
	if err := sp.End(assign(dir, id)); err != nil {
		return errors.Join(err, limit(fd, id, 0))
	}
	return nil
}

// Release lifts the limit of a directory that is going to be deleted, and so
// gives its number back. A directory without a limit, and file systems that
// have none, are nothing to release.
func Release(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return nil
	}
	if err != nil {
		return sys.Error("open", dir, err)
	}
	defer sys.CloseAll(fd)
	id, err := projectOf(fd)
	if err != nil || id == 0 {
		return err
	}
	sp := trace.Begin(trace.File, "quota release", dir)
	return sp.End(limit(fd, id, 0))
}

// Project returns the number of the project that a directory is, if it is one of
// ours; 0 if not, and where there are no projects.
func Project(dir string) (uint32, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, sys.Error("open", dir, err)
	}
	defer sys.CloseAll(fd)
	return projectOf(fd)
}

// Usage returns how many bytes the project of a directory has and may have;
// zeros if it was not bounded.
func Usage(dir string) (used, most int64, err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, 0, sys.Error("open", dir, err)
	}
	defer sys.CloseAll(fd)
	id, err := projectOf(fd)
	if err != nil || id == 0 {
		return 0, 0, err
	}
	q, err := get(fd, id)
	return int64(q.bytes), int64(q.hardBlocks * block), err
}

// projectOf returns the project of ours that a directory was given; 0 for none.
func projectOf(fd int) (uint32, error) {
	var a attributes
	err := ioctl(fd, iocGetAttributes, &a)
	if err == unix.ENOTTY || err == unix.EOPNOTSUPP || err == unix.EINVAL {
		return 0, nil // a file system that knows no projects
	}
	if err != nil {
		return 0, os.NewSyscallError("FS_IOC_FSGETXATTR", err)
	}
	if a.flags&(inherit|inheritZFS) == 0 || a.project < first {
		return 0, nil
	}
	return a.project, nil
}

func ioctl(fd int, request uintptr, a *attributes) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(a)))
	if errno != 0 {
		return errno
	}
	return nil
}

// take finds a number that nothing has and limits its project, so that nobody
// else takes it.
func take(dir *os.File, bytes int64) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return 0, sys.Error("fstat", dir.Name(), err)
	}
	numbers.Lock()
	defer numbers.Unlock()
	for n := uint32(st.Ino); ; n++ {
		id := first | n&(first-1)
		q, err := get(int(dir.Fd()), id)
		if err != nil {
			return 0, err
		}
		if q.bytes == 0 && q.inodes == 0 && q.hardBlocks == 0 && q.softBlocks == 0 && q.hardInodes == 0 {
			return id, limit(int(dir.Fd()), id, bytes)
		}
	}
}

// get reads the account of a project. One that was never used is empty.
func get(fd int, id uint32) (q dqblk, err error) {
	err = quotactl(fd, getQuota, id, unsafe.Pointer(&q))
	if err == unix.ENOENT {
		return dqblk{}, nil // XFS
	}
	return q, os.NewSyscallError("Q_GETQUOTA", err)
}

// limit sets the limit of a project; 0 lifts it.
func limit(fd int, id uint32, bytes int64) error {
	q := dqblk{hardBlocks: (uint64(bytes) + block - 1) / block, valid: limitsValid}
	q.softBlocks = q.hardBlocks
	return os.NewSyscallError("Q_SETQUOTA", quotactl(fd, setQuota, id, unsafe.Pointer(&q)))
}

// assign gives a directory and what is in it to a project. What cannot be
// opened, such as a link, has no content to count.
func assign(dir string, id uint32) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !e.IsDir() && !e.Type().IsRegular() {
			return nil
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return sys.Error("open", path, err)
		}
		defer sys.CloseAll(fd)
		var a attributes
		if err := ioctl(fd, iocGetAttributes, &a); err != nil {
			return sys.Error("FS_IOC_FSGETXATTR", path, err)
		}
		a.project = id
		if e.IsDir() {
			a.flags |= inherit
		}
		return sys.Error("FS_IOC_FSSETXATTR", path, ioctl(fd, iocSetAttributes, &a))
	})
}

// Count returns how many projects of ours have files or limits on the file
// system of dir.
func Count(dir string) (n int, err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, sys.Error("open", dir, err)
	}
	defer sys.CloseAll(fd)
	for id := uint32(first); ; {
		var q dqblk
		err := quotactl(fd, getNext, id, unsafe.Pointer(&q))
		if err == unix.ENOENT || err == unix.ESRCH || err == nil && q.id < id {
			return n, nil
		}
		if err != nil {
			return n, os.NewSyscallError("Q_GETNEXTQUOTA", err)
		}
		if q.bytes != 0 || q.inodes != 0 || q.hardBlocks != 0 {
			n++
		}
		id = q.id + 1
	}
}
