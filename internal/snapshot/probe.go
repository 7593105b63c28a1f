package snapshot

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/xattr"
	"lade/internal/trace"
)

// Overlay tells what overlayfs offers on a directory's file system.
type Overlay struct {
	Backing   string // name of the file system, in Docker's words
	UserXattr bool   // overlays must be mounted with the option userxattr
}

// ProbeOverlay finds out whether layers of overlays can live in dir, by
// mounting one that nobody else sees. dir is made if it is missing.
//
// Errors: Unavailable with the reason why not.
func ProbeOverlay(dir string) (Overlay, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Overlay{}, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return Overlay{}, os.NewSyscallError("statfs", err)
	}
	o := Overlay{Backing: FileSystem(fs.Type)}
	if why := notUpper(fs.Type); why != "" {
		return o, errdefs.Unavailablef("%s %s", dir, why)
	}
	tmp, err := os.MkdirTemp(dir, ".probe-")
	if err != nil {
		return o, err
	}
	defer os.RemoveAll(tmp)
	for _, d := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(tmp, d), 0o755); err != nil {
			return o, err
		}
	}
	if err := os.WriteFile(filepath.Join(tmp, "lower", "f"), nil, 0o600); err != nil {
		return o, err
	}
	if err := dirEntryTypes(filepath.Join(tmp, "lower"), o.Backing); err != nil {
		return o, err
	}
	upper, err := os.Open(filepath.Join(tmp, "upper"))
	if err != nil {
		return o, err
	}
	defer upper.Close()
	if err := xattr.Set(int(upper.Fd()), "trusted.overlay.probe", []byte("y")); err != nil {
		// A user namespace has no trusted attributes.
		o.UserXattr = true
		if err := xattr.Set(int(upper.Fd()), "user.overlay.probe", []byte("y")); err != nil {
			return o, errdefs.Unavailablef("the file system of %s (%s) has no extended attributes: %w", dir, o.Backing, err)
		}
	}
	return o, tryOverlay(tmp, dir, o)
}

// notUpper says why a file system cannot hold the upper layer of an overlay,
// where the kernel would take it and fail later, or refuse it without a reason;
// "" if nothing is known against it.
//
// Source: overlayfs.rst, "Upper and Lower": it "must support the creation of
// trusted.* and/or user.* extended attributes, and must provide valid d_type".
func notUpper(magic int64) string {
	switch uint32(magic) {
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "is on an overlay, and the upper layer of an overlay cannot be on another"
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC:
		return "is on a network file system (" + FileSystem(magic) + "), which cannot hold the upper layer of an overlay"
	case unix.ECRYPTFS_SUPER_MAGIC:
		return "is on ecryptfs, which cannot hold the upper layer of an overlay"
	}
	return ""
}

// dirEntryTypes checks that the file system tells the types of entries when it
// lists a directory; without it overlay cannot see whiteouts (XFS made with
// ftype=0).
func dirEntryTypes(dir, backing string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	buf := make([]byte, 4096)
	n, err := unix.ReadDirent(int(d.Fd()), buf)
	if err != nil {
		return os.NewSyscallError("getdents64", err)
	}
	const reclen, typ = 16, 18 // offsets in struct linux_dirent64, getdents64(2)
	for buf = buf[:n]; len(buf) > typ; {
		if buf[typ] == unix.DT_UNKNOWN {
			return errdefs.Unavailablef("the file system of %s (%s) does not support d_type; XFS must be made with ftype=1", dir, backing)
		}
		l := int(buf[reclen]) | int(buf[reclen+1])<<8
		if l <= 0 || l > len(buf) {
			break
		}
		buf = buf[l:]
	}
	return nil
}

// tryOverlay mounts an overlay of the directories in tmp without attaching it
// anywhere, deletes the lower file through it and looks for the whiteout.
func tryOverlay(tmp, dir string, o Overlay) (err error) {
	sp := trace.Begin(trace.Mount, "fsmount", "overlay probe "+tmp)
	defer func() { sp.End(err) }()
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return errdefs.Unavailablef("the kernel has no overlay file system, or refuses it here: %w", os.NewSyscallError("fsopen", err))
	}
	defer unix.Close(fs)
	// fsconfig(2) takes values of at most 255 bytes; these are always short.
	options := map[string]string{}
	for _, d := range []string{"lower", "upper", "work"} {
		f, err := os.Open(filepath.Join(tmp, d))
		if err != nil {
			return err
		}
		defer f.Close()
		options[d+"dir"] = "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
	}
	for k, v := range options {
		err = errors.Join(err, unix.FsconfigSetString(fs, k, v))
	}
	// Without "volatile" (5.10) the end of the mount would sync the disk.
	err = errors.Join(err, unix.FsconfigSetFlag(fs, "volatile"))
	if o.UserXattr {
		err = errors.Join(err, unix.FsconfigSetFlag(fs, "userxattr"))
	}
	if err == nil {
		err = unix.FsconfigCreate(fs)
	}
	if err != nil {
		return errdefs.Unavailablef("overlay cannot be mounted on the file system of %s (%s): %w", dir, o.Backing, os.NewSyscallError("fsconfig", err))
	}
	m, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return errdefs.Unavailablef("overlay cannot be mounted on %s: %w", dir, os.NewSyscallError("fsmount", err))
	}
	defer unix.Close(m)
	if err := unix.Unlinkat(m, "f", 0); err != nil {
		return errdefs.Unavailablef("overlay on the file system of %s (%s) is read-only or cannot delete: %w", dir, o.Backing, err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(tmp, "upper", "f"), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return errdefs.Unavailablef("overlay on the file system of %s (%s) makes no whiteouts", dir, o.Backing)
	}
	return nil
}

// AufsMagic is the magic number of aufs, which no mainline kernel has.
const AufsMagic = 0x61756673

// FileSystem returns the name of a file system by its magic number, as Docker
// prints it.
//
// Source: statfs(2), linux/magic.h.
func FileSystem(magic int64) string {
	switch uint32(magic) {
	case unix.EXT4_SUPER_MAGIC:
		return "extfs"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	case 0x2fc12fc1:
		return "zfs"
	case unix.F2FS_SUPER_MAGIC:
		return "f2fs"
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	case unix.SMB_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC:
		return "cifs"
	case AufsMagic:
		return "aufs"
	case unix.RAMFS_MAGIC:
		return "ramfs"
	case unix.ECRYPTFS_SUPER_MAGIC:
		return "ecryptfs"
	case unix.FUSE_SUPER_MAGIC:
		return "fuse"
	case 0xca451a4e:
		return "bcachefs"
	}
	return "<unknown>"
}
