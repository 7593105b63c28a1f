package layer

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/idmap"
	"lade/internal/linux/xattr"
	"lade/internal/tarpass"
)

// inode identifies a file whatever its name.
type inode struct{ dev, ino uint64 }

// packer writes files of a directory tree to a tar stream. ctx is that of the
// call which uses it.
type packer struct {
	ctx     context.Context
	w       *tar.Writer
	out     *bufio.Writer    // where w writes: headers of small files travel together
	overlay string           // prefix of overlay's own attributes; "" for a tree that is no layer
	seen    map[inode]string // files with several names, by the name in the stream
	ids     idmap.Map        // that owners are translated by, to the inside; may be empty
	pass    tarpass.Sender   // takes large files as descriptors; may be nil
	bare    map[inode]bool   // directories of which nothing else is packed; may be nil
	buf     []byte
}

func newPacker(ctx context.Context, w io.Writer, overlay string) *packer {
	out := bufio.NewWriterSize(w, packBuffer)
	return &packer{ctx: ctx, w: tar.NewWriter(out), out: out, overlay: overlay, seen: make(map[inode]string), buf: make([]byte, copyBuffer)}
}

// packBuffer holds headers and small files, in bytes; what is longer passes by.
const packBuffer = 64 << 10

// close ends the stream.
func (p *packer) close() error { return errors.Join(p.w.Close(), p.out.Flush()) }

// tree writes the entry base of the directory fd, whose state is st, under
// name, and if it is a directory what is in it, sorted. An empty name writes
// only what is in it. Files that disappear meanwhile are passed over.
func (p *packer) tree(fd int, base, name string, st *unix.Stat_t) error {
	if err := context.Cause(p.ctx); err != nil {
		return err
	}
	dir, last := split(name)
	if p.overlay != "" && strings.HasPrefix(last, whiteoutPrefix) {
		return refuseName(name)
	}
	if p.overlay != "" && isWhiteout(st) {
		return p.mark(join(dir, whiteoutPrefix+last), st)
	}
	if !isDir(st) {
		return p.file(fd, base, name, st)
	}
	d, err := unix.Openat(fd, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return vanished(pathError("openat", name, err))
	}
	defer unix.Close(d)
	if name != "" {
		if err := p.directory(d, name, st); err != nil {
			return err
		}
	}
	if p.bare[inode{st.Dev, st.Ino}] {
		return nil
	}
	names, err := entries(d, "")
	if err != nil {
		return vanished(err)
	}
	slices.Sort(names)
	for _, n := range names {
		st, err := lstat(d, n)
		if err != nil {
			if err = vanished(err); err != nil {
				return err
			}
			continue
		}
		if err := p.tree(d, n, child(name, n), &st); err != nil {
			return err
		}
	}
	return nil
}

// child returns the name in the stream of entry n of the directory name.
func child(name, n string) string {
	if strings.HasSuffix(name, "/") {
		return name + n
	}
	return join(name, n)
}

// mark writes an empty file that stands for a deletion.
func (p *packer) mark(name string, st *unix.Stat_t) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, ModTime: mtime(st).Truncate(time.Second)}
	return p.w.WriteHeader(h)
}

func mtime(st *unix.Stat_t) time.Time { return time.Unix(st.Mtim.Unix()) }

// header returns the header of an entry but for its type.
func (p *packer) header(name string, st *unix.Stat_t) *tar.Header {
	uid, gid := st.Uid, st.Gid
	if !p.ids.Empty() {
		uid, gid = p.ids.Inside(uid, gid)
	}
	return &tar.Header{
		Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(uid), Gid: int(gid), ModTime: mtime(st), Format: tar.FormatPAX,
	}
}

// directory writes the entry of the open directory d.
func (p *packer) directory(d int, name string, st *unix.Stat_t) error {
	h := p.header(strings.TrimSuffix(name, "/")+"/", st)
	h.Typeflag = tar.TypeDir
	opaque, err := p.attributes(d, "", h)
	if err != nil {
		return err
	}
	if err := p.w.WriteHeader(h); err != nil {
		return err
	}
	if opaque {
		return p.mark(join(name, opaqueName), st)
	}
	return nil
}

// file writes an entry that is not a directory.
func (p *packer) file(fd int, base, name string, st *unix.Stat_t) error {
	h := p.header(name, st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		return nil // no tar format knows sockets
	case unix.S_IFREG:
		h.Typeflag = tar.TypeReg
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		link, err := readlink(fd, base)
		if errors.Is(err, unix.EINVAL) {
			return nil // it is no link any more
		}
		if err != nil {
			return vanished(err)
		}
		h.Linkname = link
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	if st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := p.seen[id]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return p.w.WriteHeader(h)
		}
	}
	if h.Typeflag != tar.TypeReg {
		if _, err := p.attributes(fd, base, h); err != nil {
			return err
		}
		return p.written(h, st, p.w.WriteHeader(h))
	}
	return p.regular(fd, base, h, st)
}

// written notes the name in the stream of a file that has more names.
func (p *packer) written(h *tar.Header, st *unix.Stat_t, err error) error {
	if err == nil && st.Nlink > 1 {
		p.seen[inode{st.Dev, st.Ino}] = h.Name
	}
	return err
}

// regular writes a file with its content. was is what it was a moment ago.
func (p *packer) regular(fd int, base string, h *tar.Header, was *unix.Stat_t) error {
	// O_NONBLOCK: what was a file a moment ago may be a pipe now.
	f, err := unix.Openat(fd, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return vanished(pathError("openat", h.Name, err))
	}
	defer unix.Close(f)
	st, err := lstat(f, "")
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	h.Size = st.Size
	if _, err := p.attributes(f, "", h); err != nil {
		return err
	}
	if p.pass != nil && st.Size >= tarpass.Least && tarpass.Passable(f) {
		return p.written(h, was, p.passed(f, h))
	}
	if err := p.w.WriteHeader(h); err != nil {
		return err
	}
	return p.written(h, was, p.content(f, h))
}

// passed writes the header of the file f, and sends f with it.
func (p *packer) passed(f int, h *tar.Header) error {
	if err := errors.Join(p.w.Flush(), p.out.Flush()); err != nil {
		return err
	}
	tarpass.Announce(h)
	p.pass.Pass(f)
	return errors.Join(p.w.WriteHeader(h), p.out.Flush())
}

// content writes h.Size bytes of f; zeros when the file became shorter, which
// keeps the rest of the stream readable.
func (p *packer) content(f int, h *tar.Header) error {
	for left := h.Size; left > 0; {
		if err := context.Cause(p.ctx); err != nil {
			return err
		}
		b := p.buf[:min(left, copyBuffer)]
		n, err := unix.Read(f, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return pathError("read", h.Name, err)
		}
		if n == 0 {
			clear(b)
			n = len(b)
		}
		if _, err := p.w.Write(b[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// attributes adds the extended attributes of a file to its header, as far as
// they mean something on another machine. Those of overlay itself tell whether
// a directory is opaque. base is empty for the open file fd itself.
func (p *packer) attributes(fd int, base string, h *tar.Header) (opaque bool, err error) {
	list := func() ([]string, error) { return xattr.ListAt(fd, base) }
	get := func(a string) ([]byte, error) { return xattr.GetAt(fd, base, a) }
	if base == "" {
		list = func() ([]string, error) { return xattr.List(fd) }
		get = func(a string) ([]byte, error) { return xattr.Get(fd, a) }
	}
	attrs, err := list()
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, a := range attrs {
		if !portable(a) {
			continue
		}
		v, err := get(a)
		if xattr.Absent(err) || errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return false, err
		}
		if own, ok := strings.CutPrefix(a, p.overlay); ok && p.overlay != "" {
			rest, escaped := strings.CutPrefix(own, "overlay.")
			switch {
			case escaped:
				a = p.overlay + rest
			case own == "opaque":
				opaque = string(v) == "y"
				continue
			case own == "redirect" || own == "metacopy":
				return false, errdefs.NotImplementedf("layer: %s depends on other layers (overlay option %s)", h.Name, own)
			default:
				continue
			}
		}
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string)
		}
		h.PAXRecords[paxXattr+a] = string(v)
	}
	return opaque, nil
}

// portable reports whether an attribute belongs to the file rather than to the
// machine, as the labels of SELinux and the hashes of IMA do, or to the file
// system, as access control lists of NFS and CIFS.
func portable(attr string) bool {
	switch {
	case attr == "security.capability", strings.HasPrefix(attr, "system.posix_acl_"):
		return true
	}
	return !strings.HasPrefix(attr, "security.") && !strings.HasPrefix(attr, "system.")
}

// fileMode returns a mode as os.FileMode has it.
func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		m |= fs.ModeDir
	case unix.S_IFLNK:
		m |= fs.ModeSymlink
	case unix.S_IFIFO:
		m |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		m |= fs.ModeSocket
	case unix.S_IFCHR:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		m |= fs.ModeDevice
	}
	if mode&unix.S_ISUID != 0 {
		m |= fs.ModeSetuid
	}
	if mode&unix.S_ISGID != 0 {
		m |= fs.ModeSetgid
	}
	if mode&unix.S_ISVTX != 0 {
		m |= fs.ModeSticky
	}
	return m
}
