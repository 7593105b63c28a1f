package container

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// pack writes source as a tar archive whose names begin with the source's last
// part, or with its rename, changed from old to renamed.
func pack(w io.Writer, source place, old, renamed string) error {
	out := bufio.NewWriterSize(w, smallFiles)
	t := tar.NewWriter(out)
	buf := make([]byte, copyBuffer)
	dir, base := split(source.path)
	root := filepath.Join(dir, base)
	links := map[[2]uint64]string{} // device and inode → first name
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
		return packEntry(t, p, renameEntry(name, old, renamed), d, links, buf)
	})
	return errors.Join(err, t.Close(), out.Flush())
}

// Sizes of buffers, in bytes: what is longer than the first passes by it.
const (
	smallFiles = 64 << 10
	copyBuffer = 128 << 10
)

func packEntry(t *tar.Writer, p, name string, d fs.DirEntry, links map[[2]uint64]string, buf []byte) error {
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
		if to, seen := links[key]; seen {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, to, 0
		} else {
			links[key] = name
		}
	}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	// A file that grows meanwhile is cut at the size that was promised.
	n, err := io.CopyBuffer(struct{ io.Writer }{t}, struct{ io.Reader }{io.LimitReader(f, h.Size)}, buf)
	if err == nil && n < h.Size {
		err = fmt.Errorf("%s: %w: it became shorter while it was read", p, io.ErrUnexpectedEOF)
	}
	return err
}

// extract unpacks an archive of source so that it ends up as dst. Nothing is
// written outside dst's directory, whatever the archive says.
func (c *copying) extract(r io.Reader, source place, dst string) error {
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
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	x := &extraction{root: root, dirs: map[string]*tar.Header{}, buf: make([]byte, copyBuffer)}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
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
			return err
		}
	}
	return x.finish()
}

type extraction struct {
	root *os.Root
	dirs map[string]*tar.Header // their times are set last
	buf  []byte
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
		// The reader of archives would only copy by smaller pieces itself.
		_, err = io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{t}, x.buf)
		if err = errors.Join(err, f.Close()); err != nil {
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

func (x *extraction) finish() error {
	var errs []error
	for name, h := range x.dirs {
		errs = append(errs, x.root.Chmod(name, h.FileInfo().Mode().Perm()), x.root.Chtimes(name, h.ModTime, h.ModTime))
	}
	return errors.Join(errs...)
}
