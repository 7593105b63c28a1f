package layer

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// TreeChanges compares two whole directory trees, as drivers have them that do
// not stack layers, and returns the differences as Changes does: what it takes
// to make now of old. An empty old is a tree without files.
//
// Errors: the context's.
func TreeChanges(ctx context.Context, old, now string) ([]Change, error) {
	after, err := unix.Open(now, dirFlags, 0)
	if err != nil {
		return nil, pathError("open", now, err)
	}
	defer unix.Close(after)
	before := -1
	if old != "" {
		if before, err = unix.Open(old, dirFlags, 0); err != nil {
			return nil, pathError("open", old, err)
		}
		defer unix.Close(before)
	}
	t := trees{ctx: ctx}
	err = t.directories(before, after, "")
	return t.changes, err
}

// trees compares two trees; ctx is that of the call of TreeChanges.
type trees struct {
	ctx     context.Context
	changes []Change
}

// directories compares two open directories of the name dir; old is negative
// if there was none.
func (t *trees) directories(old, now int, dir string) error {
	if err := context.Cause(t.ctx); err != nil {
		return err
	}
	names, err := entries(now, "")
	if err != nil {
		return err
	}
	var gone []string
	if old >= 0 {
		if gone, err = entries(old, ""); err != nil {
			return err
		}
	}
	slices.Sort(names)
	gone = slices.DeleteFunc(gone, func(n string) bool { _, there := slices.BinarySearch(names, n); return there })
	names = append(names, gone...)
	slices.Sort(names)
	slices.Sort(gone)
	for _, n := range names {
		name := join(dir, n)
		if _, missing := slices.BinarySearch(gone, n); missing {
			t.changes = append(t.changes, Change{"/" + name, Deleted})
		} else if err := t.entry(old, now, n, name); err != nil {
			return err
		}
	}
	return nil
}

// entry compares the entry base of two directories.
func (t *trees) entry(old, now int, base, name string) error {
	st, err := lstat(now, base)
	if errors.Is(err, unix.ENOENT) {
		return nil // the container is at work
	}
	if err != nil {
		return err
	}
	kind, same := Added, false
	was := unix.Stat_t{}
	if old >= 0 {
		switch was, err = lstat(old, base); {
		case err == nil:
			kind, same = Modified, looksSame(&st, &was)
		case !errors.Is(err, unix.ENOENT):
			return err
		}
	}
	if !isDir(&st) {
		if !same {
			t.changes = append(t.changes, Change{"/" + name, kind})
		}
		return nil
	}
	at := len(t.changes)
	t.changes = append(t.changes, Change{"/" + name, kind})
	if err := t.descend(old, now, base, name, isDir(&was)); err != nil {
		return err
	}
	if same && len(t.changes) == at+1 {
		t.changes = t.changes[:at]
	}
	return nil
}

// descend compares what is in a directory; wasDir tells that old has it, too.
func (t *trees) descend(old, now int, base, name string, wasDir bool) error {
	to, err := unix.Openat(now, base, dirFlags|unix.O_NOFOLLOW, 0)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return nil
	}
	if err != nil {
		return pathError("openat", name, err)
	}
	defer unix.Close(to)
	from := -1
	if wasDir {
		if from, err = unix.Openat(old, base, dirFlags|unix.O_NOFOLLOW, 0); err != nil {
			return pathError("openat", name, err)
		}
		defer unix.Close(from)
	}
	return t.directories(from, to, name)
}

// looksSame is same for files of two trees of which one was made as a copy of
// the other: where they are the same inode of two snapshots and neither was
// touched, nothing else is to be asked.
func looksSame(a, b *unix.Stat_t) bool {
	if a.Ino == b.Ino && a.Ctim == b.Ctim && a.Mode == b.Mode && !isDir(a) {
		return true
	}
	return same(a, b)
}

// TreeDiff writes the layer tar of what differs between two whole directory
// trees to w, not compressed: applied to a copy of old it gives now. An empty
// old is a tree without files.
//
// Errors: Invalid for a file whose name stands for a deletion in a layer, what
// w returns, the context's.
func TreeDiff(ctx context.Context, old, now string, w io.Writer) error {
	changes, err := TreeChanges(ctx, old, now)
	if err != nil {
		return err
	}
	root, err := unix.Open(now, dirFlags, 0)
	if err != nil {
		return pathError("open", now, err)
	}
	defer unix.Close(root)
	p := newPacker(ctx, w, "")
	for _, c := range changes {
		if err := p.change(root, c); err != nil {
			return err
		}
	}
	return p.w.Close()
}

// change writes the entry of one difference; root is the tree after it.
func (p *packer) change(root int, c Change) error {
	if err := context.Cause(p.ctx); err != nil {
		return err
	}
	name := strings.TrimPrefix(c.Path, "/")
	dir, base := split(name)
	if strings.HasPrefix(base, whiteoutPrefix) {
		return errdefs.Invalidf("layer: a layer cannot hold a file named %q: such a name stands for a deletion", c.Path)
	}
	fd, err := openIn(root, dir, dirFlags, noFollow)
	if absent(err) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if c.Kind == Deleted {
		st, err := lstat(fd, "")
		if err != nil {
			return err
		}
		return p.mark(join(dir, whiteoutPrefix+base), &st)
	}
	st, err := lstat(fd, base)
	switch {
	case absent(err):
		return nil
	case err != nil:
		return err
	case !isDir(&st):
		return p.file(fd, base, name, &st)
	}
	d, err := unix.Openat(fd, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return pathError("openat", name, err)
	}
	defer unix.Close(d)
	return p.directory(d, name, &st)
}
