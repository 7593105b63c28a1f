package layer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/xattr"
)

// Trees are two whole trees, of which New was once a copy of Old: the form in
// which every storage driver but overlay2 keeps a snapshot and its parent. A
// nil Old stands for an empty directory.
//
// A file counts as unchanged if copying would show no difference: type, mode,
// owner, times, attributes and content are the same. Content is read only when
// the state of the inode says that it may have changed: a snapshot of a file
// system keeps that (ctime), a copy does not.
type Trees struct{ Old, New *os.File }

// Changes returns the differences, as the function Changes does for an overlay.
func (t Trees) Changes(ctx context.Context) ([]Change, error) {
	var out []Change
	err := t.walk(ctx, func(d difference) error {
		out = append(out, Change{"/" + d.name, d.kind})
		return nil
	})
	return out, err
}

// Diff writes the layer tar that makes New of Old to w, not compressed, as the
// function Diff does for an upper directory. Errors: Invalid for a file that no
// layer can hold, what w returns, the context's.
func (t Trees) Diff(ctx context.Context, w io.Writer) error {
	p := newPacker(ctx, w, "")
	err := t.walk(ctx, func(d difference) error {
		dir, last := split(d.name)
		if strings.HasPrefix(last, whiteoutPrefix) {
			return refuseName(d.name)
		}
		if d.kind == Deleted {
			return p.mark(join(dir, whiteoutPrefix+last), d.st)
		}
		if !isDir(d.st) {
			return p.file(d.dir, last, d.name, d.st)
		}
		fd, err := unix.Openat(d.dir, last, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return vanished(pathError("openat", d.name, err))
		}
		defer unix.Close(fd)
		return p.directory(fd, d.name, d.st)
	})
	if err != nil {
		return err
	}
	return p.close()
}

// Usage returns the disk space, in bytes, of the files that are new or changed,
// every inode once.
func (t Trees) Usage(ctx context.Context) (int64, error) {
	var sum int64
	seen := map[inode]bool{}
	err := t.walk(ctx, func(d difference) error {
		if d.kind == Deleted || isDir(d.st) {
			return nil
		}
		id := inode{d.st.Dev, d.st.Ino}
		if !seen[id] {
			seen[id] = true
			sum += d.st.Blocks * 512 // stat(2): in units of 512 bytes, whatever the block size
		}
		return nil
	})
	return sum, err
}

// difference is one entry of New that Old has not, or has otherwise; or the
// reverse.
type difference struct {
	name string // relative to the top
	kind ChangeKind
	dir  int          // the directory of New, open, that the entry is in; -1 if it is deleted
	st   *unix.Stat_t // of the entry; of a deleted one, what it was
}

// walk calls visit for every difference: sorted by name, a directory before
// what is in it, also when nothing but what is in it differs. Of a directory
// that is gone, only itself is told.
func (t Trees) walk(ctx context.Context, visit func(difference) error) error {
	w := treeWalk{ctx: ctx, visit: visit}
	old := -1
	if t.Old != nil {
		old = int(t.Old.Fd())
	}
	return w.directory(old, int(t.New.Fd()), "")
}

// treeWalk is one walk; ctx is that of its call.
type treeWalk struct {
	ctx     context.Context
	visit   func(difference) error
	pending []difference // directories on the way that are the same, so far not told
}

// tell visits a difference, and before it the directories that lead there.
func (w *treeWalk) tell(d difference) error {
	for _, p := range w.pending {
		if err := w.visit(p); err != nil {
			return err
		}
	}
	w.pending = w.pending[:0]
	return w.visit(d)
}

// states returns the states of the entries of a directory; -1 has none.
func states(fd int) (map[string]*unix.Stat_t, error) {
	out := map[string]*unix.Stat_t{}
	if fd < 0 {
		return out, nil
	}
	names, err := entries(fd, "")
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		st, err := lstat(fd, n)
		switch {
		case err == nil:
			out[n] = &st
		case !absent(err): // else the container is at work
			return nil, err
		}
	}
	return out, nil
}

// directory compares what is in two open directories; old is -1 if there is
// none.
func (w *treeWalk) directory(old, now int, name string) error {
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	before, err := states(old)
	if err != nil {
		return err
	}
	after, err := states(now)
	if err != nil {
		return err
	}
	names := slices.Collect(maps.Keys(after))
	for n := range before {
		if after[n] == nil {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	for _, n := range names {
		full := join(name, n)
		if after[n] == nil {
			if err := w.tell(difference{full, Deleted, -1, before[n]}); err != nil {
				return err
			}
			continue
		}
		if err := w.entry(old, now, full, before[n], after[n]); err != nil {
			return err
		}
	}
	return nil
}

// entry compares an entry that New has; before is nil if Old has not.
func (w *treeWalk) entry(old, now int, name string, before, after *unix.Stat_t) error {
	d := difference{name, Modified, now, after}
	if before == nil {
		d.kind = Added
	}
	_, base := split(name)
	equal := false
	if before != nil {
		var err error
		if equal, err = alike(old, now, base, before, after); err != nil {
			return vanished(err)
		}
	}
	if !equal {
		if err := w.tell(d); err != nil {
			return err
		}
	}
	if !isDir(after) {
		return nil
	}
	below, err := openSub(now, base)
	if err != nil {
		return vanished(err)
	}
	defer unix.Close(below)
	was := -1
	if before != nil && isDir(before) {
		if was, err = openSub(old, base); err != nil {
			return err
		}
		defer unix.Close(was)
	}
	if !equal {
		return w.directory(was, below, name)
	}
	w.pending = append(w.pending, d)
	depth := len(w.pending)
	err = w.directory(was, below, name)
	if len(w.pending) == depth { // nothing was told
		w.pending = w.pending[:depth-1]
	}
	return err
}

func openSub(fd int, base string) (int, error) {
	sub, err := unix.Openat(fd, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	return sub, pathError("openat", base, err)
}

// vanished forgives what a container deleted or replaced meanwhile; ESRCH is what
// proc says of a process that has ended.
func vanished(err error) error {
	if absent(err) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// alike reports whether the entries base of two directories are the same to
// whoever reads them.
func alike(old, now int, base string, before, after *unix.Stat_t) (bool, error) {
	if !same(before, after) {
		return false, nil
	}
	if before.Ctim == after.Ctim {
		return true, nil
	}
	if eq, err := sameAttributes(old, now, base); err != nil || !eq {
		return false, err
	}
	switch before.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		one, err := readlink(old, base)
		if err != nil {
			return false, err
		}
		two, err := readlink(now, base)
		return one == two, err
	case unix.S_IFREG:
		if after.Size > 0 {
			return sameContent(old, now, base)
		}
	}
	return true, nil
}

// sameAttributes compares the extended attributes that a layer keeps.
func sameAttributes(old, now int, base string) (bool, error) {
	read := func(fd int) (map[string]string, error) {
		names, err := xattr.ListAt(fd, base)
		if err != nil {
			return nil, err
		}
		out := map[string]string{}
		for _, a := range names {
			if !portable(a) {
				continue
			}
			v, err := xattr.GetAt(fd, base, a)
			if xattr.Absent(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			out[a] = string(v)
		}
		return out, nil
	}
	one, err := read(old)
	if err != nil {
		return false, err
	}
	two, err := read(now)
	return maps.Equal(one, two), err
}

// sameContent compares two regular files of the same size.
func sameContent(old, now int, base string) (bool, error) {
	open := func(dir int) (*os.File, error) {
		fd, err := unix.Openat(dir, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, pathError("openat", base, err)
		}
		return os.NewFile(uintptr(fd), base), nil
	}
	one, err := open(old)
	if err != nil {
		return false, err
	}
	defer one.Close()
	two, err := open(now)
	if err != nil {
		return false, err
	}
	defer two.Close()
	a, b := make([]byte, compareBuffer), make([]byte, compareBuffer)
	for {
		n, err := fill(one, a)
		if err != nil {
			return false, err
		}
		m, err := fill(two, b)
		if err != nil || n != m || !bytes.Equal(a[:n], b[:m]) {
			return false, err
		}
		if n < len(a) {
			return true, nil
		}
	}
}

// fill reads until b is full or the file ends.
func fill(f *os.File, b []byte) (int, error) {
	n, err := io.ReadFull(f, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return n, err
}

// compareBuffer is how much of each of two files is compared at a time, in
// bytes.
const compareBuffer = 64 << 10

// refuseName is the error for a file whose name means something else in a layer.
func refuseName(name string) error {
	return errdefs.Invalidf("layer: a layer cannot hold a file named %q: such a name stands for a deletion", "/"+name)
}

// Size returns the disk space, in bytes, of the files below dir that are not
// directories, every inode once. Files that disappear meanwhile are passed over.
func Size(ctx context.Context, dir string) (int64, error) {
	f, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return Trees{New: f}.Usage(ctx)
}
