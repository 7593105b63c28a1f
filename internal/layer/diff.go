package layer

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// DiffOptions says what Diff packs.
type DiffOptions struct {
	Upper     string // an overlay's upper directory, which should not change meanwhile
	UserXattr bool   // it was mounted with the option userxattr
}

// Diff writes the layer tar of an upper directory to w, not compressed: what
// Apply makes the same directory of, save its top. Entries are sorted, times
// have nanoseconds, hard links within the layer are kept.
//
// Errors: NotImplemented for an upper directory that was mounted with the
// options redirect_dir or metacopy and used them, what w returns, the
// context's.
func Diff(ctx context.Context, o DiffOptions, w io.Writer) error {
	fd, err := unix.Open(o.Upper, dirFlags, 0)
	if err != nil {
		return pathError("open", o.Upper, err)
	}
	defer unix.Close(fd)
	st, err := lstat(fd, "")
	if err != nil {
		return err
	}
	p := newPacker(ctx, w, overlayXattr(o.UserXattr))
	if err := p.tree(fd, ".", "", &st); err != nil {
		return err
	}
	return p.close()
}

// ChangeKind is what happened to a path, numbered as in Docker's API.
type ChangeKind uint8

// The kinds of changes.
const (
	Modified ChangeKind = iota
	Added
	Deleted
)

// Change is one difference between a container and its image.
type Change struct {
	Path string // absolute in the container
	Kind ChangeKind
}

// Changes compares an upper directory with the layers below, top first, and
// returns the differences: a directory before what is in it, names sorted.
// Directories that hold a change count as modified; of a directory that is
// gone only itself is listed. A file that was merely opened for writing is no
// change.
func Changes(ctx context.Context, upper string, lower []string, userXattr bool) ([]Change, error) {
	s, err := openStack(append([]string{upper}, lower...), userXattr)
	if err != nil {
		return nil, err
	}
	defer s.close()
	c := comparison{ctx: ctx, all: s, below: &stack{fds: s.fds[1:], opaque: s.opaque}}
	if _, err := c.directory(""); err != nil {
		return nil, err
	}
	return c.changes, nil
}

// comparison walks an upper directory; ctx is that of the call of Changes.
type comparison struct {
	ctx     context.Context
	all     *stack // with the upper directory
	below   *stack // without
	changes []Change
}

// directory compares what is in the upper directory dir, and reports whether
// anything differs.
func (c *comparison) directory(dir string) (bool, error) {
	if err := context.Cause(c.ctx); err != nil {
		return false, err
	}
	fd, err := openIn(c.all.fds[0], dir, dirFlags, noFollow)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	names, err := entries(fd, "")
	if err != nil {
		return false, err
	}
	gone, err := c.gone(fd, dir, names)
	if err != nil {
		return false, err
	}
	names = append(names, gone...)
	slices.Sort(names)
	begin := len(c.changes)
	for _, n := range names {
		if slices.Contains(gone, n) {
			c.changes = append(c.changes, Change{"/" + join(dir, n), Deleted})
			continue
		}
		if err := c.entry(fd, n, join(dir, n)); err != nil {
			return false, err
		}
	}
	return len(c.changes) > begin, nil
}

// gone returns what the layers below have in dir and the upper directory fd,
// if it is opaque, hides.
func (c *comparison) gone(fd int, dir string, names []string) ([]string, error) {
	if dir == "" || !c.all.isOpaque(fd, "") {
		return nil, nil
	}
	old, err := c.below.list(dir)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(old, func(n string) bool { return slices.Contains(names, n) }), nil
}

// entry compares one entry of the upper directory fd.
func (c *comparison) entry(fd int, base, name string) error {
	st, err := lstat(fd, base)
	if errors.Is(err, unix.ENOENT) {
		return nil // the container is at work
	}
	if err != nil {
		return err
	}
	old, exists, err := c.below.lookup(name)
	if err != nil {
		return err
	}
	kind := Modified
	switch {
	case isWhiteout(&st) && !exists:
		return nil // made and deleted since
	case isWhiteout(&st):
		kind = Deleted
	case !exists:
		kind = Added
	}
	at := len(c.changes)
	c.changes = append(c.changes, Change{"/" + name, kind})
	within := false
	if isDir(&st) {
		if within, err = c.directory(name); err != nil && !absent(err) {
			return err
		}
	}
	if kind == Modified && !within && same(&st, &old.st) {
		c.changes = slices.Delete(c.changes, at, at+1)
	}
	return nil
}

// same reports whether two files look alike, by what copying up keeps.
func same(a, b *unix.Stat_t) bool {
	return a.Mode == b.Mode && a.Uid == b.Uid && a.Gid == b.Gid && a.Rdev == b.Rdev && a.Mtim == b.Mtim &&
		(isDir(a) || a.Size == b.Size)
}

// list returns the names in the directory dir of the union.
func (s *stack) list(dir string) ([]string, error) {
	var out []string
	hides := map[string]bool{}
	for i := range s.fds {
		one := &stack{fds: s.fds[i : i+1], opaque: s.opaque}
		f, ok, err := one.lookup(dir)
		if err != nil {
			return nil, err
		}
		if !ok {
			// Is it hidden from here on, or just not in this layer?
			if _, end, err := s.lookupIn(s.fds[i], dir); err != nil || end == hidden {
				return out, err
			}
			continue
		}
		if !isDir(&f.st) {
			return out, nil
		}
		fd, err := openIn(s.fds[i], dir, dirFlags, noFollow)
		if err != nil {
			return nil, err
		}
		names, opaque, err := s.listIn(fd, hides)
		unix.Close(fd)
		if err != nil {
			return nil, err
		}
		out = append(out, names...)
		if opaque {
			return out, nil
		}
	}
	return out, nil
}

// listIn returns the names in fd that no layer above has, and notes them.
func (s *stack) listIn(fd int, hides map[string]bool) (names []string, opaque bool, err error) {
	all, err := entries(fd, "")
	for _, n := range all {
		if hides[n] {
			continue
		}
		hides[n] = true
		st, serr := lstat(fd, n)
		if serr == nil && !isWhiteout(&st) {
			names = append(names, strings.Clone(n))
		}
	}
	return names, s.isOpaque(fd, ""), err
}
