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

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/filecopy"
	"lade/internal/linux/idmap"
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

	src  *source     // the stream
	tr   *tar.Reader // of src
	buf  []byte
	open openDirs   // at most parentCache
	dirs dirEntries // what is finished at the end

	files   int
	size    int64
	skipped int
}

func newUnpacker(root int, base string) *unpacker {
	return &unpacker{
		root: root, base: base, umask: umask(), uid: os.Geteuid(), gid: os.Getegid(), user: inUserns(),
		buf: make([]byte, copyBuffer), open: make(openDirs), dirs: dirEntries{at: make(map[string]int)},
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
	defer u.open.close()
	in := bufio.NewReaderSize(r, 64<<10)
	u.src = &source{r: in}
	u.tr = tar.NewReader(u.src)
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		h, err := u.tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return u.src.badTar(err)
		}
		if err := u.entry(ctx, h); err != nil {
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
func (u *unpacker) entry(ctx context.Context, h *tar.Header) error {
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
		return u.regular(ctx, p, name, base, h)
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

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "/" + b
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
	u.open.closeBut(p)
	return remove(p.fd, base)
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
