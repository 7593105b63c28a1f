package volume

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"lade/internal/linux/btrfs"
	"lade/internal/linux/quota"
)

// bound limits what dir, which is empty, may hold: by project quota; on btrfs,
// which has none, it becomes a subvolume with a limit (docs/adr/0049). Errors:
// Unavailable where neither can be.
func bound(dir string, bytes int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return os.NewSyscallError("statfs", err)
	}
	switch st.Type {
	case unix.BTRFS_SUPER_MAGIC:
		return boundBtrfs(dir, bytes)
	case zfsMagic:
		return boundZFS(dir, bytes)
	}
	return quota.Bound(dir, bytes)
}

// boundBtrfs makes dir a subvolume with a limit.
//
// Accounting is turned on for the whole file system by the first limit and slows
// it down; so only who asks for a limit pays.
func boundBtrfs(dir string, bytes int64) error {
	if err := becomeSubvolume(dir); err != nil {
		return err
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	fd := int(f.Fd())
	if err := btrfs.EnableQuota(fd); err != nil {
		return err
	}
	info, err := btrfs.Describe(fd)
	if err != nil {
		return err
	}
	return btrfs.LimitWhole(fd, info.ID, bytes)
}

// becomeSubvolume replaces an empty directory by a subvolume.
func becomeSubvolume(dir string) error {
	if _, is, err := subvolume(dir); err != nil || is {
		return err
	}
	if err := os.Remove(dir); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := btrfs.Create(parent, filepath.Base(dir)); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755) // whatever the umask is
}

// subvolume reports whether dir is one, and its number.
func subvolume(dir string) (id uint64, is bool, err error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	fd := int(f.Fd())
	if is, err = btrfs.Is(fd); err != nil || !is {
		return 0, false, err
	}
	info, err := btrfs.Describe(fd)
	return info.ID, err == nil, err
}

// release gives back what bounds a directory that is going to be deleted. A
// subvolume goes at once, unless others are in it: those are deleted like
// directories.
func release(dir string) error {
	id, is, err := subvolume(dir)
	if err != nil {
		return err
	}
	if !is {
		return releaseProject(dir)
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := btrfs.Destroy(parent, filepath.Base(dir)); errors.Is(err, unix.ENOTEMPTY) {
		return nil
	} else if err != nil {
		return err
	}
	// Most often the file system must clean up first, and does it then (Linux
	// 6.9); an account of nothing harms nobody.
	if err := btrfs.Forget(int(parent.Fd()), id); err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTCONN) {
		return err
	}
	return nil
}

// releaseProject lifts the limit of a project, if dir is one.
func releaseProject(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err == nil && st.Type == zfsMagic {
		return releaseZFS(dir)
	}
	return quota.Release(dir)
}
