package layer

import (
	"errors"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/atomicfile"
)

// dirFlags opens a directory only to name what is in it.
const dirFlags = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC

// Ways to resolve a path below a root.
const (
	follow   = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	noFollow = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS
)

// openIn opens path inside the directory root, which is "/" to it.
func openIn(root int, path string, flags int, resolve uint64) (int, error) {
	if path == "" {
		path = "."
	}
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: resolve}
	// EAGAIN: a directory on the way was renamed meanwhile and the kernel could
	// not tell whether ".." left the root (openat2(2)).
	for range 64 {
		fd, err := unix.Openat2(root, path, &how)
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, pathError("openat2", path, err)
		}
	}
	return -1, pathError("openat2", path, unix.EAGAIN)
}

// absent reports whether err says that a path leads to nothing.
func absent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)
}

// pathError says which call failed for which path.
func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// lstat returns the state of name in the directory fd; "" is the directory.
func lstat(fd int, name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	err := unix.Fstatat(fd, name, &st, flags)
	return st, pathError("fstatat", name, err)
}

func isDir(st *unix.Stat_t) bool  { return st.Mode&unix.S_IFMT == unix.S_IFDIR }
func isLink(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFLNK }

// isWhiteout reports whether st is the 0:0 device by which overlay hides a name.
func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// readlink returns the target of the link name in the directory fd; "" reads
// the link that fd itself is.
func readlink(fd int, name string) (string, error) {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, name, b)
	if err != nil {
		return "", pathError("readlinkat", name, err)
	}
	return string(b[:n]), nil
}

// chmod sets the mode of name in the directory fd and refuses a link:
// fchmodat2(2), which could, is younger (6.6) than the kernels supported.
func chmod(fd int, name string, mode uint32) error {
	f, err := unix.Openat(fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return pathError("openat", name, err)
	}
	defer unix.Close(f)
	return pathError("chmod", name, unix.Chmod("/proc/self/fd/"+strconv.Itoa(f), mode))
}

// entries returns the names in the directory name of fd, unsorted.
func entries(fd int, name string) ([]string, error) {
	if name == "" {
		name = "."
	}
	d, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, pathError("openat", name, err)
	}
	f := os.NewFile(uintptr(d), name)
	names, err := f.Readdirnames(-1)
	return names, errors.Join(err, f.Close())
}

// remove deletes name from the directory fd, with all that is in it.
func remove(fd int, name string) error {
	err := unix.Unlinkat(fd, name, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.EISDIR && err != unix.EPERM {
		return pathError("unlinkat", name, err)
	}
	d, derr := unix.Openat(fd, name, dirFlags|unix.O_NOFOLLOW, 0)
	if derr != nil {
		return pathError("unlinkat", name, err)
	}
	defer unix.Close(d)
	names, err := entries(d, "")
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := remove(d, n); err != nil {
			return err
		}
	}
	return pathError("unlinkat", name, unix.Unlinkat(fd, name, unix.AT_REMOVEDIR))
}

// full gives the errors of a full disk their kind.
func full(err error) error {
	if err != nil && atomicfile.Full(err) {
		return errdefs.Exhaustedf("layer: %w", err)
	}
	return err
}
