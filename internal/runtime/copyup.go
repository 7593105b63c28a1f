package runtime

import (
	"context"
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"lade/internal/filecopy"
	"lade/internal/linux/mount"
	"lade/internal/linux/rootpath"
	"lade/internal/linux/sys"
	"lade/internal/linux/xattr"
	"lade/internal/trace"
)

// copiedUp makes a tmpfs with what the image has at dest ("tmpcopyup"). It is filled
// before it is in place, by descriptors: nobody else can lead the copy elsewhere. Of
// what the spec mounts below dest, nothing is copied.
//
// Source: OCI runtime-spec, config.md, "Linux mount options".
func (b *builder) copiedUp(o *mount.Options, super []string, attrs uint64, dest string) (ref, error) {
	how := *o
	how.Super, how.Set = super, attrs
	fd, err := mount.New("tmpfs", "", &how)
	if err != nil {
		return ref{}, err
	}
	b.own(fd)
	to, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ref{}, sys.Error("openat", dest, err)
	}
	defer sys.CloseAll(to)
	if b.user != nil { // it is the host's root who makes it
		uid, gid, _ := b.user.ids.Host(0, 0)
		if err := unix.Fchown(to, int(uid), int(gid)); err != nil {
			return ref{}, sys.Error("fchown", dest, err)
		}
	}
	from, err := rootpath.Open(b.root, dest, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) {
		return known(fd), nil
	}
	if err != nil {
		return ref{}, err
	}
	defer sys.CloseAll(from)
	span := trace.Begin(trace.Mount, "copy up", dest)
	var c upCopier
	return known(fd), span.End(c.directory(from, to))
}

// upCopier copies directories; the zero value is ready. Names of one file become
// files of their own.
type upCopier struct{ files filecopy.Copier }

// directory copies what is in one open directory into another, and its attributes.
func (c *upCopier) directory(src, dst int) error {
	names, err := namesIn(src)
	if err != nil {
		return err
	}
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(src, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return sys.Error("fstatat", name, err)
		}
		if err := c.entry(src, dst, name, &st); err != nil {
			return err
		}
	}
	return attributesOf(src, ".", dst, ".")
}

func (c *upCopier) entry(src, dst int, name string, st *unix.Stat_t) error {
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if err := unix.Mkdirat(dst, name, 0o700); err != nil {
			return sys.Error("mkdirat", name, err)
		}
		return c.within(src, dst, name, unix.O_RDONLY|unix.O_DIRECTORY, func(from, to int) error { return c.directory(from, to) })
	case unix.S_IFREG:
		fd, err := unix.Openat(dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return sys.Error("openat", name, err)
		}
		sys.CloseAll(fd)
		err = c.within(src, dst, name, unix.O_RDWR, func(from, to int) error {
			return sys.Error("copy", name, c.files.Content(context.Background(), to, from, st.Size))
		})
		if err != nil {
			return err
		}
	case unix.S_IFLNK:
		target := make([]byte, unix.PathMax)
		n, e := unix.Readlinkat(src, name, target)
		if err = e; err == nil {
			err = unix.Symlinkat(string(target[:n]), dst, name)
		}
	default:
		err = unix.Mknodat(dst, name, st.Mode&unix.S_IFMT|0o600, int(st.Rdev))
	}
	if err != nil {
		return sys.Error("make", name, err)
	}
	return attributesOf(src, name, dst, name)
}

// within opens an entry of both directories.
func (c *upCopier) within(src, dst int, name string, flags int, do func(from, to int) error) error {
	const careful = unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	from, err := unix.Openat(src, name, flags&^unix.O_ACCMODE|careful, 0)
	if err != nil {
		return sys.Error("openat", name, err)
	}
	defer sys.CloseAll(from)
	to, err := unix.Openat(dst, name, flags|careful, 0)
	if err != nil {
		return sys.Error("openat", name, err)
	}
	defer sys.CloseAll(to)
	return do(from, to)
}

// attributesOf gives a copy owner, mode, times and extended attributes.
func attributesOf(src int, from string, dst int, to string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(src, from, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return sys.Error("fstatat", from, err)
	}
	if err := unix.Fchownat(dst, to, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return sys.Error("fchownat", to, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(dst, to, st.Mode&0o7777, 0); err != nil {
			return sys.Error("fchmodat", to, err)
		}
	}
	attrs, err := xattr.ListAt(src, from)
	if err != nil && !xattr.Unsupported(err) {
		return err
	}
	for _, a := range attrs {
		value, err := xattr.GetAt(src, from, a)
		if err == nil {
			err = xattr.SetAt(dst, to, a, value)
		}
		// What a tmpfs does not keep: user.* before Linux 6.6, labels of its own.
		if err != nil && !xattr.Absent(err) && !xattr.Unsupported(err) {
			return err
		}
	}
	return sys.Error("utimensat", to, unix.UtimesNanoAt(dst, to, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW))
}

// namesIn lists a directory.
func namesIn(dir int) ([]string, error) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, sys.Error("openat", ".", err)
	}
	f := os.NewFile(uintptr(fd), ".")
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}
