package container

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"lade/internal/filecopy"
	"lade/internal/tarpass"
)

// packer writes a tar archive.
type packer struct {
	*tar.Writer
	out   *bufio.Writer
	pass  tarpass.Sender       // takes large files; may be nil
	links map[[2]uint64]string // device and inode → first name
	buf   []byte
}

// pack writes source as a tar archive whose names begin with the source's last
// part, or with its rename, changed from old to renamed. If w is a
// tarpass.Sender, large files are passed to it.
func pack(w io.Writer, source place, old, renamed string) error {
	out := bufio.NewWriterSize(w, smallFiles)
	t := &packer{Writer: tar.NewWriter(out), out: out, links: map[[2]uint64]string{}, buf: make([]byte, copyBuffer)}
	t.pass, _ = w.(tarpass.Sender)
	dir, base := split(source.path)
	root := filepath.Join(dir, base)
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		first := base
		if source.rename != "" {
			first = source.rename
		}
		name := path.Join(first, filepath.ToSlash(rel))
		if first == "." && rel != "." {
			name = "./" + filepath.ToSlash(rel)
		}
		return t.entry(p, renameEntry(name, old, renamed), d)
	})
	return errors.Join(err, t.Close(), out.Flush())
}

// Sizes of buffers, in bytes: what is longer than the first passes by it.
const (
	smallFiles = 64 << 10
	copyBuffer = 128 << 10
)

func (t *packer) entry(p, name string, d fs.DirEntry) error {
	st, err := d.Info()
	if err != nil {
		return err
	}
	if st.Mode()&os.ModeSocket != 0 {
		return nil // has no form in an archive
	}
	link := ""
	if st.Mode()&os.ModeSymlink != 0 {
		if link, err = os.Readlink(p); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(st, link)
	if err != nil {
		return err
	}
	h.Format = tar.FormatPAX
	h.Name = name
	h.Uname, h.Gname = "", ""
	if d.IsDir() {
		h.Name = strings.TrimSuffix(name, "/") + "/"
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && st.Mode().IsRegular() && sys.Nlink > 1 {
		key := [2]uint64{uint64(sys.Dev), sys.Ino}
		if to, seen := t.links[key]; seen {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, to, 0
		} else {
			t.links[key] = name
		}
	}
	if h.Typeflag != tar.TypeReg {
		return t.WriteHeader(h)
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	if t.pass != nil && h.Size >= tarpass.Least && tarpass.Passable(int(f.Fd())) {
		return t.passed(f, h)
	}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	// A file that grows meanwhile is cut at the size that was promised.
	n, err := io.CopyBuffer(struct{ io.Writer }{t}, struct{ io.Reader }{io.LimitReader(f, h.Size)}, t.buf)
	if err == nil && n < h.Size {
		err = fmt.Errorf("%s: %w: it became shorter while it was read", p, io.ErrUnexpectedEOF)
	}
	return err
}

// passed writes the header of f, and sends f with it.
func (t *packer) passed(f *os.File, h *tar.Header) error {
	if err := errors.Join(t.Flush(), t.out.Flush()); err != nil {
		return err
	}
	tarpass.Announce(h)
	t.pass.Pass(int(f.Fd()))
	return errors.Join(t.WriteHeader(h), t.out.Flush())
}

// extract unpacks an archive of source so that it ends up as dst, and returns how
// many bytes that were. Nothing is written outside dst's directory, whatever the
// archive says. If r is a tarpass.Receiver, files that are passed with it are
// copied.
func (c *copying) extract(ctx context.Context, r io.Reader, source place, dst string) (int64, error) {
	into := place{path: dst}
	if real, err := filepath.EvalSymlinks(dst); err == nil {
		into.path = keepEnd(real, dst)
	}
	if st, err := os.Stat(into.path); err == nil {
		into.exists, into.dir = true, st.IsDir()
	}
	_, base := split(source.path)
	dir, old, renamed, err := target(place{path: source.path, exists: true, dir: source.dir}, into)
	if err != nil {
		return 0, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	x := &extraction{ctx: ctx, root: root, dirs: map[string]*tar.Header{}, buf: make([]byte, copyBuffer)}
	x.passed, _ = r.(tarpass.Receiver)
	count := &counter{r: r}
	t := tar.NewReader(count)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		for _, name := range []*string{&h.Name, &h.Linkname} {
			if name == &h.Linkname && h.Typeflag != tar.TypeLink {
				continue
			}
			switch {
			case renamed != "":
				*name = renameEntry(*name, old, renamed)
			case source.rename != "":
				*name = renameEntry(*name, base, source.rename)
			}
		}
		if err := x.entry(t, h); err != nil {
			return 0, err
		}
	}
	return count.n + x.size, x.finish()
}

// extraction unpacks an archive; ctx is that of the call of extract.
type extraction struct {
	ctx    context.Context
	root   *os.Root
	dirs   map[string]*tar.Header // their times are set last
	passed tarpass.Receiver       // has the content of some entries; may be nil
	files  filecopy.Copier
	size   int64 // bytes of those
	buf    []byte
}

func (x *extraction) entry(t io.Reader, h *tar.Header) error {
	name := path.Clean(strings.TrimLeft(h.Name, "/"))
	if name == "." {
		return nil // the destination itself stays as it is
	}
	old, err := x.root.Lstat(name)
	exists := err == nil
	mode := h.FileInfo().Mode()
	if exists && old.IsDir() != (h.Typeflag == tar.TypeDir) {
		if old.IsDir() {
			return fmt.Errorf("cannot overwrite directory %q with non-directory %q", name, path.Dir(name))
		}
		return fmt.Errorf("cannot overwrite non-directory %q with directory %q", name, path.Dir(name))
	}
	if exists && !old.IsDir() {
		if err := x.root.Remove(name); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if !exists {
			if err := x.root.Mkdir(name, 0o700); err != nil {
				return err
			}
		}
		x.dirs[name] = h
		return nil
	case tar.TypeReg:
		f, err := x.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err = errors.Join(x.content(f, t, h), f.Close()); err != nil {
			return err
		}
	case tar.TypeSymlink:
		return x.root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		return x.root.Link(path.Clean(strings.TrimLeft(h.Linkname, "/")), name)
	default:
		return nil // devices and pipes are the container's own
	}
	if err := x.root.Chmod(name, mode&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)); err != nil {
		return err
	}
	return x.root.Chtimes(name, h.ModTime, h.ModTime)
}

// content fills f from the archive, or from the file that was passed.
func (x *extraction) content(f *os.File, t io.Reader, h *tar.Header) error {
	size, passed, err := int64(0), false, error(nil)
	if x.passed != nil {
		size, passed, err = tarpass.Announced(h)
	}
	if err != nil {
		return err
	}
	if !passed {
		// The reader of archives would only copy by smaller pieces itself.
		_, err := io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{t}, x.buf)
		return err
	}
	from, err := x.passed.Take()
	if err != nil {
		return err
	}
	defer from.Close()
	x.size += size
	if err := x.files.Content(x.ctx, int(f.Fd()), int(from.Fd()), size); err != nil {
		return &fs.PathError{Op: "copy", Path: f.Name(), Err: err}
	}
	return nil
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (x *extraction) finish() error {
	var errs []error
	for name, h := range x.dirs {
		errs = append(errs, x.root.Chmod(name, h.FileInfo().Mode().Perm()), x.root.Chtimes(name, h.ModTime, h.ModTime))
	}
	return errors.Join(errs...)
}
