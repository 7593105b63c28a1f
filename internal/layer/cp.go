package layer

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/idmap"
	"lade/internal/tarpass"
)

// PathStat is what a client learns of a path before it copies.
type PathStat struct {
	Name       string // last name of the path, "/" for the top, "." after a trailing "/."
	Size       int64  // bytes
	Mode       fs.FileMode
	Mtime      time.Time
	LinkTarget string // where a link leads in the end, absolute in the container; else ""
}

// absolute cleans a path that a client gave, but keeps its trailing "/" or
// "/.", which say that a link at its end is to be followed.
func absolute(p string) string {
	abs := path.Join("/", p)
	switch {
	case p != "" && path.Base(p) == ".": // also before a "/"
		return strings.TrimSuffix(abs, "/") + "/."
	case abs != "/" && strings.HasSuffix(p, "/"):
		return abs + "/"
	}
	return abs
}

// locate opens the directory of path inside root and returns the name in it. A
// link at the end is not followed, unless a "/" or "/." comes after it; the
// name is then ".".
func locate(root *os.File, p string) (fd int, base string, err error) {
	abs := absolute(p)
	dir, base := path.Split(abs)
	if base == "" {
		base = "."
	}
	fd, err = openIn(int(root.Fd()), dir, dirFlags, follow)
	return fd, base, missing(p, err)
}

// missing classifies the failure to find a path that a client named.
func missing(p string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT):
		return errdefs.NotFoundf("%s: no such file or directory: %w", p, err)
	case errors.Is(err, unix.ENOTDIR):
		return errdefs.Invalidf("%s: not a directory: %w", p, err)
	case errors.Is(err, unix.ELOOP):
		return errdefs.Invalidf("%s: too many levels of symbolic links: %w", p, err)
	case errors.Is(err, unix.ENAMETOOLONG):
		return errdefs.Invalidf("%.100s: file name too long: %w", p, err)
	}
	return err
}

// Stat returns what is known of path in the directory root, which is "/" to
// path and to every link on the way.
//
// Errors: NotFound, Invalid for a path through something that is no directory.
func Stat(root *os.File, p string) (PathStat, error) {
	fd, base, err := locate(root, p)
	if err != nil {
		return PathStat{}, err
	}
	defer unix.Close(fd)
	st, err := lstat(fd, base)
	if err != nil {
		return PathStat{}, missing(p, err)
	}
	abs := absolute(p)
	out := PathStat{Name: path.Base(abs), Size: st.Size, Mode: fileMode(st.Mode), Mtime: mtime(&st)}
	if strings.HasSuffix(abs, "/.") {
		out.Name = "."
	}
	if isLink(&st) {
		out.LinkTarget, err = evaluate(int(root.Fd()), abs)
	}
	return out, err
}

// evaluate returns the absolute path that p stands for inside root, with all
// links followed. What does not exist is taken as it is written.
func evaluate(root int, p string) (string, error) {
	todo := strings.Split(p, "/")
	cur := ""
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			cur, _ = split(cur)
			continue
		}
		next := join(cur, part)
		fd, err := openIn(root, next, unix.O_PATH|unix.O_NOFOLLOW, follow)
		if err != nil {
			if !absent(err) {
				return "", missing(p, err)
			}
			cur = next
			continue
		}
		link, err := readlink(fd, "")
		unix.Close(fd)
		if err != nil { // not a link
			cur = next
			continue
		}
		if links++; links > maxLinks {
			return "", missing(p, unix.ELOOP)
		}
		if strings.HasPrefix(link, "/") {
			cur = ""
		}
		todo = append(strings.Split(link, "/"), todo...)
	}
	return "/" + cur, nil
}

// PackOptions says how Pack names entries.
type PackOptions struct {
	// Contents leaves out the directory itself: names are relative to it, as
	// `export` has them.
	Contents bool
	// IDs, if not empty, is the map of the user namespace in which the stream's
	// owners are meant.
	IDs idmap.Map
	// Bare are directories, absolute in the root, of which nothing but themselves is
	// packed if another file system is mounted there.
	Bare []string
}

// Pack writes a tar stream, not compressed, of path in the directory root to w:
// a file, or a directory with all that is in it. Names begin with the last
// name of the path, as Docker's archives have them. If w is a tarpass.Sender,
// large files are passed to it. What is deleted meanwhile is passed over.
//
// Errors: NotFound, Invalid for a path through something that is no directory,
// what w returns, the context's.
func Pack(ctx context.Context, root *os.File, p string, o PackOptions, w io.Writer) error {
	fd, base, err := locate(root, p)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	st, err := lstat(fd, base)
	if err != nil {
		return missing(p, err)
	}
	name := path.Base(absolute(p))
	if strings.HasSuffix(absolute(p), "/.") {
		name = "."
	}
	if o.Contents {
		if !isDir(&st) {
			return missing(p, unix.ENOTDIR)
		}
		name = ""
	}
	pk := newPacker(ctx, w, "")
	pk.ids = o.IDs
	pk.pass, _ = w.(tarpass.Sender)
	if pk.bare, err = mountedOn(root, o.Bare); err != nil {
		return err
	}
	if err := pk.tree(fd, base, name, &st); err != nil {
		return err
	}
	return pk.close()
}

// mountedOn identifies those of the directories, absolute in root, that are of
// another file system than root is.
func mountedOn(root *os.File, dirs []string) (map[inode]bool, error) {
	if len(dirs) == 0 {
		return nil, nil
	}
	top, err := lstat(int(root.Fd()), "")
	if err != nil {
		return nil, err
	}
	out := map[inode]bool{}
	for _, dir := range dirs {
		fd, err := openIn(int(root.Fd()), dir, dirFlags, noFollow)
		if vanished(err) == nil {
			if err != nil {
				continue // nothing can be mounted there
			}
			var st unix.Stat_t
			st, err = lstat(fd, "")
			unix.Close(fd)
			if st.Dev != top.Dev {
				out[inode{st.Dev, st.Ino}] = true
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// UnpackOptions says how Unpack treats what exists and who owns what is new.
type UnpackOptions struct {
	// NoOverwriteDirNonDir refuses to replace a directory by something else,
	// and the reverse.
	NoOverwriteDirNonDir bool
	// Owner owns what is unpacked; nil: whom the stream names.
	Owner *Owner
	// IDs, if not empty, is the map of the user namespace in which the stream's
	// owners and Owner are meant. What is new belongs to its root otherwise.
	IDs idmap.Map
}

// Unpack unpacks a tar stream, which must not be compressed, into the
// directory path of root. Whiteouts are files like others to it. If stream is a
// tarpass.Receiver, files that are passed with it are copied.
//
// Errors: NotFound for a missing path; Invalid when path is not a directory,
// for a replacement that the options refuse, for a stream that names something
// outside; DataLoss for a truncated or damaged stream; Exhausted; what the
// stream returns; the context's.
func Unpack(ctx context.Context, root *os.File, p string, stream io.Reader, o UnpackOptions) error {
	rootFD := int(root.Fd())
	target := path.Join("/", p)
	fd, err := openIn(rootFD, target, unix.O_PATH, follow)
	if err != nil {
		return missing(p, err)
	}
	st, err := lstat(fd, "")
	unix.Close(fd)
	if err != nil {
		return err
	}
	if !isDir(&st) {
		return errdefs.Invalidf("extraction point is not a directory")
	}
	u := newUnpacker(rootFD, strings.TrimPrefix(target, "/"))
	u.exact = true
	u.owner = o.Owner
	u.passed, _ = stream.(tarpass.Receiver)
	if o.NoOverwriteDirNonDir {
		u.keep = func(name string, old, new bool) error {
			switch {
			case old && !new:
				return errdefs.Invalidf("cannot overwrite directory %q with non-directory %q", "/"+name, p)
			case !old && new:
				return errdefs.Invalidf("cannot overwrite non-directory %q with directory %q", "/"+name, p)
			}
			return nil
		}
	}
	if o.IDs.Empty() {
		return u.run(ctx, stream)
	}
	u.ids = o.IDs
	uid, gid, ok := o.IDs.Host(0, 0)
	if !ok {
		return errdefs.Invalidf("the user namespace has no root")
	}
	u.uid, u.gid = int(uid), int(gid)
	return idmap.As(uid, gid, func() error { return u.run(ctx, stream) })
}
