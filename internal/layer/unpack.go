package layer

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/filecopy"
	"lade/internal/linux/idmap"
	"lade/internal/linux/xattr"
	"lade/internal/tarpass"
)

const (
	paxXattr    = "SCHILY.xattr." // pax record of an extended attribute
	paxSparse   = "GNU.sparse."   // pax records of sparse files
	copyBuffer  = 128 << 10       // bytes read from the stream at once
	parentCache = 32              // open directories kept
	maxLinks    = 40              // as the kernel's MAXSYMLINKS
	maxMajor    = 1<<12 - 1       // linux/kdev_t.h
	maxMinor    = 1<<20 - 1
	maxSparse   = 1 << 44 // 16 TiB, the largest file of ext4
	sparseBlock = 4096    // runs of zeros shorter than this are written
	implied     = 0o755   // mode of directories that the stream does not mention
)

// unpacker writes the entries of a tar stream below a directory.
type unpacker struct {
	root  int    // the directory that bounds everything
	base  string // what the stream's names are relative to, below root
	umask uint32
	exact bool // modes that the kernel gave to new files need a check
	uid   int  // owner of new files
	gid   int
	user  bool // in a user namespace: some things are not permitted
	owner *Owner
	ids   idmap.Map                              // that owners are translated by, to the host; may be empty
	keep  func(name string, old, new bool) error // refuses a replacement; may be nil
	lay   *layering                              // nil: no union, names are only names

	passed tarpass.Receiver // has the content of some entries; may be nil
	copies filecopy.Copier

	parents map[string]*parent
	dirs    []dirEntry
	dirAt   map[string]int // index in dirs
	buf     []byte
	files   int
	size    int64
	skipped int
}

// parent is an open directory.
type parent struct {
	fd     int
	setgid bool // gives its group to what is created in it
}

// dirEntry is what a directory gets when all its entries are written.
type dirEntry struct {
	name   string
	mode   uint32 // without the type
	xattrs map[string]string
	atime  time.Time
	mtime  time.Time
}

func newUnpacker(root int, base string) *unpacker {
	return &unpacker{
		root: root, base: base, umask: umask(), uid: os.Geteuid(), gid: os.Getegid(), user: inUserns(),
		parents: make(map[string]*parent), dirAt: make(map[string]int), buf: make([]byte, copyBuffer),
	}
}

// umask returns the mask of the process without changing it; all bits when
// /proc does not tell.
func umask() uint32 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0o777
	}
	_, s, _ := strings.Cut(string(status), "\nUmask:")
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	mask, digits := uint32(0), strings.TrimSpace(s)
	if digits == "" {
		return 0o777
	}
	for _, c := range digits {
		if c < '0' || c > '7' {
			return 0o777
		}
		mask = mask<<3 | uint32(c-'0')
	}
	return mask
}

// inUserns reports whether this process lives in a user namespace other than
// the initial one, which maps all of 2³²−1 ids to themselves.
func inUserns() bool {
	m, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(m)), " ") != "0 0 4294967295"
}

// run unpacks every entry of r and reads r to its end.
func (u *unpacker) run(ctx context.Context, r io.Reader) error {
	defer u.flush()
	in := bufio.NewReaderSize(r, 64<<10)
	src := &source{r: in}
	tr := tar.NewReader(src)
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return src.badTar(err)
		}
		if err := u.entry(ctx, h, tr, src); err != nil {
			return full(err)
		}
	}
	if err := u.finishDirs(); err != nil {
		return full(err)
	}
	// A digest of the stream covers the padding after the end marker too.
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if _, err := in.Read(u.buf); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// badTar classifies an error of the tar reader.
func (s *source) badTar(err error) error {
	switch {
	case s.err != nil:
		return s.err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errdefs.DataLossf("layer: the tar stream is truncated: %w", err)
	}
	return errdefs.DataLossf("layer: damaged tar stream: %w", err)
}

// cleanName returns the relative path that an entry's name stands for: "" for
// the top directory. Errors: Invalid for a name that climbs out.
func cleanName(name string) (string, error) {
	if strings.IndexByte(name, 0) >= 0 || len(name) >= unix.PathMax {
		return "", errdefs.Invalidf("layer: invalid name %.100q in the tar stream", name)
	}
	// An absolute name means the same below the target, where ".." stops.
	c := path.Clean(name)
	if c == ".." || strings.HasPrefix(c, "../") {
		return "", errdefs.Invalidf("layer: %q in the tar stream is outside of the target", name)
	}
	if c = strings.TrimPrefix(c, "/"); c == "." {
		c = ""
	}
	return c, nil
}

// entry unpacks one entry.
func (u *unpacker) entry(ctx context.Context, h *tar.Header, tr *tar.Reader, src *source) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if u.lay != nil {
		if done, err := u.lay.whiteout(u, name, h); done || err != nil {
			return err
		}
	}
	u.files++
	if name == "" {
		if h.Typeflag != tar.TypeDir {
			return errdefs.Invalidf("layer: the top of the tar stream is not a directory")
		}
		if u.lay == nil {
			return nil // the directory that `cp` copies to stays as it is
		}
		return u.directory("", h)
	}
	name = join(u.base, name)
	dir, base := split(name)
	p, err := u.parent(dir)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.directory(name, h)
	case tar.TypeReg, '\x00', tar.TypeCont, tar.TypeGNUSparse:
		return u.regular(ctx, p, name, base, h, tr, src)
	case tar.TypeLink:
		return u.hardlink(p, name, base, h)
	case tar.TypeSymlink:
		if h.Linkname == "" {
			return errdefs.Invalidf("layer: the link %q leads nowhere", h.Name)
		}
		err = u.place(p, name, base, false, func() error { return unix.Symlinkat(h.Linkname, p.fd, base) })
	case tar.TypeFifo:
		err = u.place(p, name, base, false, func() error { return unix.Mknodat(p.fd, base, unix.S_IFIFO|0o600, 0) })
	case tar.TypeChar, tar.TypeBlock:
		if h.Devmajor < 0 || h.Devmajor > maxMajor || h.Devminor < 0 || h.Devminor > maxMinor {
			return errdefs.Invalidf("layer: %q has the device number %d:%d", h.Name, h.Devmajor, h.Devminor)
		}
		typ := uint32(unix.S_IFCHR)
		if h.Typeflag == tar.TypeBlock {
			typ = unix.S_IFBLK
		}
		dev := unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
		err = u.place(p, name, base, false, func() error { return unix.Mknodat(p.fd, base, typ|0o600, int(dev)) })
		if u.user && errors.Is(err, unix.EPERM) {
			u.skipped++
			return nil
		}
	default:
		return errdefs.Invalidf("layer: %q has the unknown type %q", h.Name, h.Typeflag)
	}
	if err != nil {
		return err
	}
	return u.attributes(p, base, h, h.Typeflag == tar.TypeSymlink)
}

// split cuts a clean path into its directory ("" for the top) and last name.
func split(name string) (dir, base string) {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return "", name
}

// place creates name by make. What is there already makes way.
func (u *unpacker) place(p *parent, name, base string, dir bool, create func() error) error {
	err := create()
	if err == unix.EEXIST {
		if u.keep != nil {
			st, err := lstat(p.fd, base)
			if err != nil {
				return err
			}
			if err := u.keep(name, isDir(&st), dir); err != nil {
				return err
			}
		}
		if err := u.unlink(p, base); err != nil {
			return err
		}
		err = create()
	}
	if err == unix.ENAMETOOLONG {
		return errdefs.Invalidf("layer: %.100q: %w", name, err)
	}
	if u.lay != nil && err == nil {
		u.lay.wrote(name)
	}
	return pathError("create", name, err)
}

// unlink removes an entry. An open directory may have been below it.
func (u *unpacker) unlink(p *parent, base string) error {
	if err := unix.Unlinkat(p.fd, base, 0); err == nil {
		return nil // not a directory: nothing was open below it
	}
	for name, q := range u.parents {
		if q != p {
			unix.Close(q.fd)
			delete(u.parents, name)
		}
	}
	return remove(p.fd, base)
}

// flush closes every open directory.
func (u *unpacker) flush() {
	for name, p := range u.parents {
		unix.Close(p.fd)
		delete(u.parents, name)
	}
}

// regular unpacks a file with content.
func (u *unpacker) regular(ctx context.Context, p *parent, name, base string, h *tar.Header, tr *tar.Reader, src *source) error {
	mode := uint32(h.Mode) & 0o7777
	var fd int
	err := u.place(p, name, base, false, func() (err error) {
		fd, err = unix.Openat(p.fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode&0o777)
		return err
	})
	if err != nil {
		return err
	}
	err = u.fill(ctx, fd, name, h, tr, src)
	if err == nil {
		err = u.fileAttributes(fd, p, name, h, mode)
	}
	return errors.Join(err, pathError("close", name, unix.Close(fd)))
}

// fill copies the content of an entry to fd.
func (u *unpacker) fill(ctx context.Context, fd int, name string, h *tar.Header, tr *tar.Reader, src *source) error {
	if u.passed != nil {
		if size, ok, err := tarpass.Announced(h); ok || err != nil {
			if err == nil {
				err = u.copy(ctx, fd, name, size)
			}
			return err
		}
	}
	sparse := isSparse(h)
	if sparse && h.Size > maxSparse {
		return errdefs.Invalidf("layer: %q is larger than any file can be", h.Name)
	}
	var at int64
	for at < h.Size {
		n, err := readFull(tr, u.buf[:min(h.Size-at, copyBuffer)])
		if n > 0 {
			if err := u.write(fd, at, u.buf[:n], sparse); err != nil {
				return pathError("write", name, err)
			}
			at += int64(n)
		}
		if err == io.EOF && at == h.Size {
			break
		}
		if err != nil {
			return src.badTar(err)
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	u.size += h.Size
	if sparse {
		return pathError("ftruncate", name, unix.Ftruncate(fd, h.Size))
	}
	return nil
}

// copy copies the content of an entry whose file was passed to fd.
func (u *unpacker) copy(ctx context.Context, fd int, name string, size int64) error {
	from, err := u.passed.Take()
	if err != nil {
		return err
	}
	defer from.Close()
	u.copies.Check = u.passed.Gone
	u.size += size
	return pathError("copy", name, u.copies.Content(ctx, fd, int(from.Fd()), size))
}

// isSparse reports whether the archiver left holes out of a file.
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, paxSparse) {
			return true
		}
	}
	return false
}

// write writes b at the offset, leaving holes for zeros if sparse.
func (u *unpacker) write(fd int, at int64, b []byte, sparse bool) error {
	if !sparse {
		return writeAll(fd, b)
	}
	for len(b) > 0 {
		n := min(len(b), sparseBlock)
		if !zero(b[:n]) {
			for done := 0; done < n; {
				m, err := unix.Pwrite(fd, b[done:n], at+int64(done))
				if err != nil && err != unix.EINTR {
					return err
				}
				done += max(m, 0)
			}
		}
		b, at = b[n:], at+int64(n)
	}
	return nil
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil && err != unix.EINTR {
			return err
		}
		b = b[max(n, 0):]
	}
	return nil
}

// ownerOf returns the owner that an entry gets.
func (u *unpacker) ownerOf(h *tar.Header) (uid, gid int) {
	if u.owner != nil {
		return u.translate(u.owner.UID, u.owner.GID)
	}
	return u.translate(h.Uid, h.Gid)
}

// translate returns the host's ids. Who has no counterpart there is nobody.
func (u *unpacker) translate(uid, gid int) (int, int) {
	if u.ids.Empty() || uid < 0 || gid < 0 {
		return uid, gid
	}
	hostUID, hostGID, ok := u.ids.Host(uint32(uid), uint32(gid))
	if !ok {
		hostUID, hostGID, _ = u.ids.Host(idmap.Nobody, idmap.Nobody)
	}
	return int(hostUID), int(hostGID)
}

// fileAttributes sets what an open new file shall have. The order matters:
// chown(2) clears set-user-ID and capabilities, writing clears both.
func (u *unpacker) fileAttributes(fd int, p *parent, name string, h *tar.Header, mode uint32) error {
	uid, gid := u.ownerOf(h)
	chowned := uid != u.uid || gid != u.gid || p.setgid || u.exact
	if chowned {
		if err := unix.Fchown(fd, uid, gid); err != nil {
			return chownError(name, uid, gid, err)
		}
	}
	if u.exact || mode&(u.umask|0o7000) != 0 {
		if err := unix.Fchmod(fd, mode); err != nil {
			return pathError("fchmod", name, err)
		}
	}
	for attr, value := range h.PAXRecords {
		if attr, ok := u.attr(attr); ok {
			if err := u.setXattr(xattr.Set(fd, attr, []byte(value)), attr); err != nil {
				return pathError("setxattr", name, err)
			}
		}
	}
	t := times(h)
	return pathError("utimensat", name, unix.UtimesNanoAt(fd, "", t[:], unix.AT_EMPTY_PATH))
}

// attributes does the same for an entry that is not open.
func (u *unpacker) attributes(p *parent, base string, h *tar.Header, link bool) error {
	uid, gid := u.ownerOf(h)
	if uid != u.uid || gid != u.gid || p.setgid || u.exact {
		if err := unix.Fchownat(p.fd, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return chownError(base, uid, gid, err)
		}
	}
	if !link {
		if err := chmod(p.fd, base, uint32(h.Mode)&0o7777); err != nil {
			return err
		}
	}
	return u.finish(p, base, h)
}

// finish sets extended attributes and times of an entry that is not open.
func (u *unpacker) finish(p *parent, base string, h *tar.Header) error {
	for attr, value := range h.PAXRecords {
		if attr, ok := u.attr(attr); ok {
			if err := u.setXattr(xattr.SetAt(p.fd, base, attr, []byte(value)), attr); err != nil {
				return pathError("setxattr", base, err)
			}
		}
	}
	t := times(h)
	return pathError("utimensat", base, unix.UtimesNanoAt(p.fd, base, t[:], unix.AT_SYMLINK_NOFOLLOW))
}

// chownError explains EINVAL, which means that a user namespace does not map
// the id.
func chownError(name string, uid, gid int, err error) error {
	if err == unix.EINVAL {
		return errdefs.Invalidf("layer: the owner %d:%d of %q does not exist here: %w", uid, gid, name, err)
	}
	return pathError("fchownat", name, err)
}

// attr returns the name under which the extended attribute of a pax record is
// stored. Overlay's own are escaped, so that no stream can use them.
func (u *unpacker) attr(record string) (string, bool) {
	attr, ok := strings.CutPrefix(record, paxXattr)
	if !ok {
		return "", false
	}
	if u.lay != nil {
		attr = u.lay.escape(attr)
	}
	return attr, true
}

// setXattr forgives what the file system or the user namespace cannot store.
func (u *unpacker) setXattr(err error, attr string) error {
	if err == nil {
		return nil
	}
	if xattr.Unsupported(err) || u.user && errors.Is(err, unix.EPERM) && !strings.HasPrefix(attr, "user.") {
		u.skipped++
		return nil
	}
	return err
}

// times returns access and modification time as the kernel takes them.
func times(h *tar.Header) [2]unix.Timespec {
	at := h.AccessTime
	if at.IsZero() {
		at = h.ModTime
	}
	return [2]unix.Timespec{timespec(at), timespec(h.ModTime)}
}

func timespec(t time.Time) unix.Timespec {
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// hardlink makes name another name of a file that the stream wrote before, or
// that was in the target.
func (u *unpacker) hardlink(p *parent, name, base string, h *tar.Header) error {
	target, err := cleanName(h.Linkname)
	if err != nil {
		return errdefs.Invalidf("layer: the hard link %q leads outside of the target, to %q", h.Name, h.Linkname)
	}
	if target == "" || join(u.base, target) == name {
		return errdefs.Invalidf("layer: the hard link %q leads to %q", h.Name, h.Linkname)
	}
	dir, last := split(join(u.base, target))
	from, err := openIn(u.root, dir, dirFlags, follow)
	if err != nil {
		if absent(err) {
			return errdefs.Invalidf("layer: the target %q of the hard link %q is missing", h.Linkname, h.Name)
		}
		return err
	}
	defer unix.Close(from)
	if st, err := lstat(from, last); errors.Is(err, unix.ENOENT) || err == nil && isDir(&st) {
		return errdefs.Invalidf("layer: the target %q of the hard link %q is missing", h.Linkname, h.Name)
	}
	err = u.place(p, name, base, false, func() error { return unix.Linkat(from, last, p.fd, base, 0) })
	if errors.Is(err, unix.ENOENT) { // the target was below what made way
		return errdefs.Invalidf("layer: the target %q of the hard link %q is missing", h.Linkname, h.Name)
	}
	if err != nil {
		return err
	}
	return u.linkAttributes(p, base, h)
}

// linkAttributes gives a file what the entry of its second name says, where
// that differs: chown(2) would clear capabilities that only the entry of the
// first name has.
func (u *unpacker) linkAttributes(p *parent, base string, h *tar.Header) error {
	st, err := lstat(p.fd, base)
	if err != nil {
		return err
	}
	if uid, gid := u.ownerOf(h); int(st.Uid) != uid || int(st.Gid) != gid {
		if err := unix.Fchownat(p.fd, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return chownError(base, uid, gid, err)
		}
		st.Mode &^= 0o7000 // cleared by the kernel
	}
	if mode := uint32(h.Mode) & 0o7777; !isLink(&st) && st.Mode&0o7777 != mode {
		if err := chmod(p.fd, base, mode); err != nil {
			return err
		}
	}
	return u.finish(p, base, h)
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "/" + b
}

// directory makes a directory, or takes the one that is there, and remembers
// what it gets at the end.
func (u *unpacker) directory(name string, h *tar.Header) error {
	if name != "" {
		if err := u.mkdir(name); err != nil {
			return err
		}
	}
	uid, gid := u.ownerOf(h)
	d := dirEntry{name: name, mode: uint32(h.Mode) & 0o7777, mtime: h.ModTime, atime: h.AccessTime}
	if d.atime.IsZero() {
		d.atime = d.mtime
	}
	for record, value := range h.PAXRecords {
		if attr, ok := u.attr(record); ok {
			if d.xattrs == nil {
				d.xattrs = make(map[string]string)
			}
			d.xattrs[attr] = value
		}
	}
	if err := u.chownDir(name, uid, gid); err != nil {
		return err
	}
	u.remember(d)
	return nil
}

func (u *unpacker) remember(d dirEntry) {
	if i, ok := u.dirAt[d.name]; ok {
		u.dirs[i] = d
		return
	}
	u.dirAt[d.name] = len(u.dirs)
	u.dirs = append(u.dirs, d)
}

// mkdir makes the directory name unless it is there.
func (u *unpacker) mkdir(name string) error {
	dir, base := split(name)
	p, err := u.parent(dir)
	if err != nil {
		return err
	}
	err = unix.Mkdirat(p.fd, base, 0o700)
	replaced := false
	if err == unix.EEXIST {
		st, err := lstat(p.fd, base)
		if err != nil {
			return err
		}
		if isDir(&st) {
			if u.lay != nil {
				u.lay.wrote(name)
			}
			return nil
		}
		replaced = true
	}
	if replaced {
		if err := u.place(p, name, base, true, func() error { return unix.Mkdirat(p.fd, base, 0o700) }); err != nil {
			return err
		}
		if u.lay != nil {
			// What made way hid the directory of that name below.
			return u.lay.hideBelow(p.fd, base)
		}
		return nil
	}
	if err == unix.ENAMETOOLONG {
		return errdefs.Invalidf("layer: %.100q: %w", name, err)
	}
	if err == nil && u.lay != nil {
		u.lay.wrote(name)
	}
	return pathError("mkdirat", name, err)
}

func (u *unpacker) chownDir(name string, uid, gid int) error {
	dir, base := split(name)
	p, err := u.parent(dir)
	if err != nil {
		return err
	}
	flags := unix.AT_SYMLINK_NOFOLLOW
	if base == "" {
		flags |= unix.AT_EMPTY_PATH
	} else if uid == u.uid && gid == u.gid && !p.setgid && !u.exact {
		return nil
	}
	if err := unix.Fchownat(p.fd, base, uid, gid, flags); err != nil {
		return chownError(name, uid, gid, err)
	}
	return nil
}

// finishDirs gives the directories their modes, attributes and times.
func (u *unpacker) finishDirs() error {
	for _, d := range u.dirs {
		dir, base := split(d.name)
		p, err := u.open(dir, false)
		if absent(err) {
			continue // a later entry took its place
		}
		if err != nil {
			return err
		}
		if base == "" {
			base = "."
		}
		if err := u.finishDir(p.fd, base, &d); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) finishDir(fd int, base string, d *dirEntry) error {
	f, err := unix.Openat(fd, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return nil // a later entry took its place
	}
	if err != nil {
		return pathError("openat", d.name, err)
	}
	defer unix.Close(f)
	for attr, value := range d.xattrs {
		if err := u.setXattr(xattr.Set(f, attr, []byte(value)), attr); err != nil {
			return pathError("setxattr", d.name, err)
		}
	}
	if err := unix.Fchmod(f, d.mode); err != nil {
		return pathError("fchmod", d.name, err)
	}
	t := [2]unix.Timespec{timespec(d.atime), timespec(d.mtime)}
	return pathError("utimensat", d.name, unix.UtimesNanoAt(f, "", t[:], unix.AT_EMPTY_PATH))
}

// parent returns the open directory dir, "" for the top. It is made if it is
// missing. The result is valid until the next call.
func (u *unpacker) parent(dir string) (*parent, error) {
	return u.open(dir, true)
}

// open returns the open directory dir and makes it if create says so.
func (u *unpacker) open(dir string, create bool) (*parent, error) {
	if p := u.parents[dir]; p != nil {
		return p, nil
	}
	fd, err := openIn(u.root, dir, dirFlags, follow)
	if create && dir != "" && absent(err) {
		fd, err = u.makeParents(dir)
	}
	if errors.Is(err, unix.ENAMETOOLONG) || errors.Is(err, unix.ELOOP) {
		return nil, errdefs.Invalidf("layer: %.100q: %w", dir, err)
	}
	if err != nil {
		return nil, err
	}
	st, err := lstat(fd, "")
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	p := &parent{fd: fd, setgid: st.Mode&unix.S_ISGID != 0}
	if len(u.parents) == parentCache {
		u.flush()
	}
	u.parents[dir] = p
	return p, nil
}

// makeParents walks to dir step by step, follows links and makes what is
// missing: as the layers below have it, else owned by root with mode 0755.
func (u *unpacker) makeParents(dir string) (int, error) {
	todo := strings.Split(dir, "/")
	cur := ""
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			cur, _ = split(cur)
			continue
		}
		next := join(cur, part)
		link, err := u.makeParent(cur, part, next)
		if err != nil {
			return -1, err
		}
		if link == "" {
			cur = next
			continue
		}
		if links++; links > maxLinks {
			return -1, errdefs.Invalidf("layer: %q: %w", dir, unix.ELOOP)
		}
		if link[0] == '/' {
			cur = ""
		}
		todo = append(strings.Split(link, "/"), todo...)
	}
	return openIn(u.root, cur, dirFlags, noFollow)
}

// makeParent sees to it that next, which is part in cur, is a directory; if it
// is a link, here or in the layers below, it returns the target instead.
func (u *unpacker) makeParent(cur, part, next string) (link string, err error) {
	fd, err := openIn(u.root, cur, dirFlags, noFollow)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	st, err := lstat(fd, part)
	switch {
	case errors.Is(err, unix.ENOENT):
	case errors.Is(err, unix.ENAMETOOLONG):
		return "", errdefs.Invalidf("layer: %.100q: %w", next, err)
	case err != nil:
		return "", err
	case isDir(&st):
		return "", nil
	case isLink(&st):
		return readlink(fd, part)
	case u.lay == nil || !isWhiteout(&st):
		return "", errdefs.Invalidf("layer: %q: %w", next, unix.ENOTDIR)
	default:
		d := dirEntry{name: next, mode: implied, mtime: time.Now(), atime: time.Now()}
		if err := u.mkdir(next); err != nil {
			return "", err
		}
		return "", u.finishDir(fd, part, &d)
	}
	d := dirEntry{name: next, mode: implied, mtime: time.Now(), atime: time.Now()}
	uid, gid := u.uid, u.gid
	if u.owner != nil {
		uid, gid = u.translate(u.owner.UID, u.owner.GID)
	}
	if u.lay != nil {
		low, ok, err := u.lay.below(next)
		if err != nil {
			return "", err
		}
		if ok && low.link != "" {
			return low.link, nil
		}
		if ok {
			d, uid, gid = low.dirEntry, low.uid, low.gid
		}
	}
	if err := u.mkdir(next); err != nil {
		return "", err
	}
	if err := unix.Fchownat(fd, part, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return "", chownError(next, uid, gid, err)
	}
	u.remember(d)
	return "", nil
}
