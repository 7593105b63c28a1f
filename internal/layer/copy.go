package layer

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/filecopy"
	"lade/internal/linux/xattr"
)

// CopyTree copies what is in the directory src into the directory dst, with
// owners, modes, times, extended attributes, hard links, devices and holes,
// and gives dst itself the owner, mode, times and attributes of src. Content is
// shared where the file system can (reflink), else copied inside the kernel.
//
// What exists in dst is merged with or replaced. Nothing is synced.
//
// Errors: Exhausted for a full disk, the context's.
//
// Sources: package filecopy.
func CopyTree(ctx context.Context, src, dst *os.File) error {
	// What the caller has open may be a mere O_PATH descriptor.
	from, err := unix.Openat(int(src.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return pathError("openat", src.Name(), err)
	}
	defer unix.Close(from)
	to, err := unix.Openat(int(dst.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return pathError("openat", dst.Name(), err)
	}
	defer unix.Close(to)
	c := copier{ctx: ctx, root: to, seen: make(map[inode]string)}
	st, err := lstat(from, "")
	if err != nil {
		return err
	}
	return full(c.directory(from, to, "", &st))
}

// copier copies a tree; ctx is that of the call of CopyTree.
type copier struct {
	ctx   context.Context
	root  int              // the target
	seen  map[inode]string // files with several names, by the path of the copy
	files filecopy.Copier
}

// directory copies what is in src, whose state is st, into dst, and then the
// attributes of src.
func (c *copier) directory(src, dst int, dir string, st *unix.Stat_t) error {
	names, err := entries(src, "")
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := context.Cause(c.ctx); err != nil {
			return err
		}
		st, err := lstat(src, n)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return err
		}
		if err := c.entry(src, dst, n, join(dir, n), &st); err != nil {
			return err
		}
	}
	return c.attributes(src, "", dst, "", st)
}

// entry copies one entry.
func (c *copier) entry(src, dst int, base, name string, st *unix.Stat_t) error {
	if isDir(st) {
		return c.subdirectory(src, dst, base, name, st)
	}
	if err := c.clear(dst, base); err != nil {
		return err
	}
	if st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := c.seen[id]; ok {
			return pathError("linkat", name, unix.Linkat(c.root, first, dst, base, 0))
		}
		c.seen[id] = name
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return c.regular(src, dst, base, st)
	case unix.S_IFLNK:
		link, err := readlink(src, base)
		if err != nil {
			return err
		}
		if err := unix.Symlinkat(link, dst, base); err != nil {
			return pathError("symlinkat", name, err)
		}
	default:
		if err := unix.Mknodat(dst, base, st.Mode&unix.S_IFMT|0o600, int(st.Rdev)); err != nil {
			return pathError("mknodat", name, err)
		}
	}
	return c.attributes(src, base, dst, base, st)
}

// clear removes what a file that is about to be copied would replace.
func (c *copier) clear(dst int, base string) error {
	st, err := lstat(dst, base)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err == nil && isDir(&st) {
		return errdefs.Conflictf("layer: %q is a directory in the target", base)
	}
	if err != nil {
		return err
	}
	return remove(dst, base)
}

func (c *copier) subdirectory(src, dst int, base, name string, st *unix.Stat_t) error {
	if err := unix.Mkdirat(dst, base, 0o700); err != nil && err != unix.EEXIST {
		return pathError("mkdirat", name, err)
	}
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	from, err := unix.Openat(src, base, flags, 0)
	if err != nil {
		return pathError("openat", name, err)
	}
	defer unix.Close(from)
	to, err := unix.Openat(dst, base, flags, 0)
	if err != nil {
		return pathError("openat", name, err)
	}
	defer unix.Close(to)
	return c.directory(from, to, name, st)
}

func (c *copier) regular(src, dst int, base string, st *unix.Stat_t) error {
	from, err := unix.Openat(src, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return pathError("openat", base, err)
	}
	defer unix.Close(from)
	to, err := unix.Openat(dst, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return pathError("openat", base, err)
	}
	err = pathError("copy", base, c.files.Content(c.ctx, to, from, st.Size))
	if err == nil {
		err = c.attributes(from, "", to, "", st)
	}
	return errors.Join(err, pathError("close", base, unix.Close(to)))
}

// attributes gives a copy what the original has; empty names stand for the
// open files themselves.
func (c *copier) attributes(src int, from string, dst int, to string, st *unix.Stat_t) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if to == "" {
		flags = unix.AT_EMPTY_PATH
	}
	if err := unix.Fchownat(dst, to, int(st.Uid), int(st.Gid), flags); err != nil {
		return chownError(to, int(st.Uid), int(st.Gid), err)
	}
	var err error
	switch {
	case isLink(st):
	case to == "":
		err = unix.Fchmod(dst, st.Mode&0o7777)
	default:
		err = chmod(dst, to, st.Mode&0o7777)
	}
	if err != nil {
		return pathError("chmod", to, err)
	}
	if err := copyXattrs(src, from, dst, to); err != nil {
		return err
	}
	t := []unix.Timespec{st.Atim, st.Mtim}
	return pathError("utimensat", to, unix.UtimesNanoAt(dst, to, t, flags))
}

func copyXattrs(src int, from string, dst int, to string) error {
	list := func() ([]string, error) { return xattr.ListAt(src, from) }
	get := func(a string) ([]byte, error) { return xattr.GetAt(src, from, a) }
	set := func(a string, v []byte) error { return xattr.SetAt(dst, to, a, v) }
	if from == "" {
		list = func() ([]string, error) { return xattr.List(src) }
		get = func(a string) ([]byte, error) { return xattr.Get(src, a) }
		set = func(a string, v []byte) error { return xattr.Set(dst, a, v) }
	}
	attrs, err := list()
	if err != nil {
		return err
	}
	for _, a := range attrs {
		v, err := get(a)
		if xattr.Absent(err) {
			continue
		}
		if err != nil {
			return err
		}
		// A label that the target's file system sets by itself cannot be set.
		if err := set(a, v); err != nil && !xattr.Unsupported(err) && portable(a) {
			return err
		}
	}
	return nil
}
