package layer

import (
	"archive/tar"
	"context"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/xattr"
)

// Names with a meaning in the tar stream of a layer.
//
// Source: OCI image-spec layer.md, "Whiteouts".
const (
	whiteoutPrefix = ".wh."
	metaPrefix     = ".wh..wh." // files of aufs itself
	opaqueName     = ".wh..wh..opq"
)

// Whiteouts says what deletions become.
type Whiteouts uint8

// The forms of deletions on disk.
const (
	Overlay     Whiteouts = iota // 0:0 devices and trusted.overlay.opaque
	OverlayUser                  // 0:0 devices and user.overlay.opaque (mount option userxattr)
	Delete                       // deletions are carried out: the target is the whole tree
)

// ApplyOptions says how a layer is unpacked.
type ApplyOptions struct {
	Whiteouts Whiteouts
	// Lower returns the directories of the layers below, top first. A directory
	// that the stream uses without mentioning it gets the attributes it has
	// there, and a link there is followed; without Lower it gets mode 0755 and
	// belongs to root. Most streams mention all that they use: Lower is called
	// when it is needed, at most once, and may wait until those layers are
	// there. Its error is Apply's.
	Lower func() ([]string, error)
}

// Result tells what Apply unpacked.
type Result struct {
	Size    int64 // bytes of the regular files
	Files   int   // entries
	Top     bool  // the stream said what the top directory is like
	Skipped int   // extended attributes and devices that this file system or user namespace cannot have
}

// Owner is who owns what is unpacked.
type Owner struct{ UID, GID int }

// Apply unpacks the layer tar, which must not be compressed, into the existing
// directory dir. It reads to the end of the stream, and checks ctx between
// pieces; it does not sync.
//
// Entries that exist make way, except that directories are merged. On an error
// dir is left as it is then, for the caller to remove.
//
// Errors: Invalid for a stream that names something outside of dir or cannot
// be stored, DataLoss for a truncated or damaged one, Exhausted for a full
// disk, what the stream returns, the context's.
func Apply(ctx context.Context, dir string, stream io.Reader, o ApplyOptions) (Result, error) {
	root, err := unix.Open(dir, dirFlags, 0)
	if err != nil {
		return Result{}, pathError("open", dir, err)
	}
	defer unix.Close(root)
	u := newUnpacker(root, "")
	u.lay = &layering{mode: o.Whiteouts, prefix: overlayXattr(o.Whiteouts == OverlayUser), lower: o.Lower, root: root}
	defer u.lay.close()
	if o.Whiteouts == Delete {
		u.lay.written = make(map[string]bool)
		u.exact = true
	} else if _, err := xattr.GetAt(root, "", "system.posix_acl_default"); err == nil {
		u.exact = true // what is created inherits more than the mode asked for
	}
	err = u.run(ctx, stream)
	_, top := u.dirs.at[""]
	return Result{u.size, u.files, top, u.skipped}, err
}

// layering is what makes a tar stream a layer: deletions, and layers below.
type layering struct {
	mode    Whiteouts
	prefix  string // of overlay's extended attributes
	root    int
	lower   func() ([]string, error) // nil: nothing is below
	union   *stack                   // opened when first needed
	written map[string]bool          // with Delete: what this stream wrote
}

func (l *layering) close() {
	if l.union != nil {
		l.union.fds = l.union.fds[1:] // root is not ours
		l.union.close()
	}
}

// escape returns the name under which an attribute of the stream is stored:
// overlay shows trusted.overlay.overlay.x as trusted.overlay.x (since Linux
// 6.7, before it hides it) and never takes it for its own.
func (l *layering) escape(attr string) string {
	if rest, ok := strings.CutPrefix(attr, l.prefix); ok && l.mode != Delete {
		return l.prefix + "overlay." + rest
	}
	return attr
}

// wrote notes that the stream has name itself.
func (l *layering) wrote(name string) {
	if l.written == nil {
		return
	}
	for name != "" && !l.written[name] {
		l.written[name] = true
		name, _ = split(name)
	}
}

// hideBelow marks a new directory that took the place of something else: what
// the layers below have under its name stays hidden.
func (l *layering) hideBelow(fd int, base string) error {
	if l.mode == Delete {
		return nil
	}
	return pathError("setxattr", base, xattr.SetAt(fd, base, l.prefix+"opaque", []byte("y")))
}

// whiteout carries out the entry name if it stands for a deletion. It reports
// whether the entry is dealt with.
func (l *layering) whiteout(u *unpacker, name string, h *tar.Header) (bool, error) {
	if !strings.Contains(name, whiteoutPrefix) {
		return false, nil
	}
	dir, base := split(name)
	if strings.HasPrefix(dir, metaPrefix) || strings.Contains(dir, "/"+metaPrefix) {
		return true, nil
	}
	if strings.HasPrefix(dir, whiteoutPrefix) || strings.Contains(dir, "/"+whiteoutPrefix) {
		return true, errdefs.Invalidf("layer: %q in the tar stream is in a directory that stands for a deletion", name)
	}
	hidden, ok := strings.CutPrefix(base, whiteoutPrefix)
	switch {
	case !ok:
		return false, nil
	case base == opaqueName:
		return true, l.opaque(u, dir)
	case strings.HasPrefix(base, metaPrefix):
		return true, nil
	case hidden == "" || hidden == "." || hidden == "..":
		return true, errdefs.Invalidf("layer: %q in the tar stream deletes nothing", name)
	case l.mode == Delete:
		u.open.close() // directories below may go
		return true, l.erase(join(dir, hidden))
	}
	p, err := u.parent(dir)
	if err != nil {
		return true, err
	}
	err = unix.Mknodat(p.fd, hidden, unix.S_IFCHR, 0)
	if err == unix.EEXIST {
		// A whiteout is about the layers below, even when it comes after an
		// entry of the same name: that one stays.
		st, err := lstat(p.fd, hidden)
		if err != nil || !isDir(&st) {
			return true, err
		}
		return true, l.hideBelow(p.fd, hidden)
	}
	if err == unix.ENAMETOOLONG {
		return true, errdefs.Invalidf("layer: %.100q: %w", name, err)
	}
	if err != nil {
		return true, pathError("mknodat", name, err)
	}
	// It keeps its time, so that Diff makes the same stream again.
	t := times(h)
	return true, pathError("utimensat", name, unix.UtimesNanoAt(p.fd, hidden, t[:], unix.AT_SYMLINK_NOFOLLOW))
}

// opaque hides what the layers below have in dir.
func (l *layering) opaque(u *unpacker, dir string) error {
	if l.mode == Delete {
		fd, err := openIn(l.root, dir, dirFlags, follow)
		if absent(err) {
			return nil
		}
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		u.open.close() // directories below may go
		return l.prune(fd, dir)
	}
	p, err := u.parent(dir)
	if err != nil {
		return err
	}
	return l.hideBelow(p.fd, "")
}

// erase deletes name, save what this stream wrote.
func (l *layering) erase(name string) error {
	dir, base := split(name)
	fd, err := openIn(l.root, dir, dirFlags, follow)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return l.eraseAt(fd, name, base)
}

func (l *layering) eraseAt(fd int, name, base string) error {
	if !l.written[name] {
		return remove(fd, base)
	}
	st, err := lstat(fd, base)
	if err != nil || !isDir(&st) {
		return err
	}
	d, err := openIn(fd, base, dirFlags, noFollow)
	if err != nil {
		return err
	}
	defer unix.Close(d)
	return l.prune(d, name)
}

// prune deletes what is in the directory fd, save what this stream wrote.
func (l *layering) prune(fd int, dir string) error {
	names, err := entries(fd, "")
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := l.eraseAt(fd, join(dir, n), n); err != nil {
			return err
		}
	}
	return nil
}

// lowEntry is a directory or a link of the layers below.
type lowEntry struct {
	dirEntry
	uid, gid int
	link     string // target of a link, else ""
}

// below returns the directory or link that the layers below have under name.
func (l *layering) below(name string) (lowEntry, bool, error) {
	if l.mode == Delete || l.lower == nil {
		return lowEntry{}, false, nil
	}
	if l.union == nil {
		dirs, err := l.lower()
		if err != nil {
			return lowEntry{}, false, err
		}
		s, err := openStack(dirs, l.mode == OverlayUser)
		if err != nil {
			return lowEntry{}, false, err
		}
		s.fds = append([]int{l.root}, s.fds...)
		l.union = s
	}
	f, ok, err := l.union.lookup(name)
	if err != nil || !ok || !isDir(&f.st) && !isLink(&f.st) {
		return lowEntry{}, false, err
	}
	fd, err := openIn(l.union.fds[f.layer], name, unix.O_PATH|unix.O_NOFOLLOW, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return lowEntry{}, false, err
	}
	defer unix.Close(fd)
	e := lowEntry{uid: int(f.st.Uid), gid: int(f.st.Gid)}
	if isLink(&f.st) {
		e.link, err = readlink(fd, "")
		return e, err == nil, err
	}
	e.dirEntry = dirEntry{
		name: name, mode: f.st.Mode & 0o7777,
		atime: time.Unix(f.st.Atim.Sec, f.st.Atim.Nsec), mtime: time.Unix(f.st.Mtim.Sec, f.st.Mtim.Nsec),
	}
	attrs, err := xattr.ListAt(fd, "")
	if err != nil {
		return e, false, err
	}
	for _, a := range attrs {
		if strings.HasPrefix(a, l.prefix) && !strings.HasPrefix(a, l.prefix+"overlay.") {
			continue // overlay's own
		}
		v, err := xattr.GetAt(fd, "", a)
		if err != nil {
			return e, false, err
		}
		if e.xattrs == nil {
			e.xattrs = make(map[string]string)
		}
		e.xattrs[a] = string(v)
	}
	return e, true, nil
}
