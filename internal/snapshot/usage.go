package snapshot

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"lade/internal/layer"
)

// dirUsage adds up the disk space of a directory and all that is in it, every
// inode once. Files that disappear meanwhile are passed over.
func dirUsage(ctx context.Context, dir string) (Usage, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return Usage{}, pathError("open", dir, err)
	}
	c := counter{ctx: ctx, seen: make(map[inode]bool)}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Usage{}, errors.Join(pathError("fstat", dir, err), unix.Close(fd))
	}
	c.add(&st)
	err = c.walk(os.NewFile(uintptr(fd), dir))
	return c.sum, err
}

type inode struct{ dev, ino uint64 }

// counter adds up a tree; ctx is that of the call of dirUsage.
type counter struct {
	ctx  context.Context
	sum  Usage
	seen map[inode]bool // files with several names
}

func (c *counter) add(st *unix.Stat_t) {
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		id := inode{st.Dev, st.Ino}
		if c.seen[id] {
			return
		}
		c.seen[id] = true
	}
	c.sum.Inodes++
	c.sum.Bytes += st.Blocks * 512 // stat(2): in units of 512 bytes, whatever the block size
}

// walk adds up what is in d and closes it.
func (c *counter) walk(d *os.File) error {
	defer d.Close()
	fd := int(d.Fd())
	for {
		if err := context.Cause(c.ctx); err != nil {
			return err
		}
		list, err := d.ReadDir(256)
		for _, e := range list {
			var st unix.Stat_t
			if err := unix.Fstatat(fd, e.Name(), &st, unix.AT_SYMLINK_NOFOLLOW); err == unix.ENOENT {
				continue
			} else if err != nil {
				return pathError("stat", e.Name(), err)
			}
			c.add(&st)
			if st.Mode&unix.S_IFMT != unix.S_IFDIR {
				continue
			}
			sub, err := unix.Openat(fd, e.Name(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
				continue
			}
			if err != nil {
				return pathError("open", e.Name(), err)
			}
			if err := c.walk(os.NewFile(uintptr(sub), e.Name())); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// TreeUsage adds up what a tree has that old, of which it was made, has not, or
// has otherwise: files that are new or changed, whole, and the top directory.
// An empty old is a tree without files.
func TreeUsage(ctx context.Context, old, now string) (Usage, error) {
	var trees layer.Trees
	var err error
	if old != "" {
		if trees.Old, err = os.Open(old); err != nil {
			return Usage{}, err
		}
		defer trees.Old.Close()
	}
	if trees.New, err = os.Open(now); err != nil {
		return Usage{}, err
	}
	defer trees.New.Close()
	changes, err := trees.Changes(ctx)
	if err != nil {
		return Usage{}, err
	}
	c := counter{ctx: ctx, seen: make(map[inode]bool), sum: Usage{Inodes: 1}}
	for _, f := range changes {
		if f.Kind == layer.Deleted {
			continue
		}
		var st unix.Stat_t
		switch err := unix.Lstat(now+f.Path, &st); {
		case err == nil:
			c.add(&st)
		case err != unix.ENOENT && err != unix.ENOTDIR:
			return Usage{}, pathError("lstat", f.Path, err)
		}
	}
	return c.sum, nil
}
