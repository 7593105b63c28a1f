package filecopy

import (
	"context"

	"golang.org/x/sys/unix"
)

// Sizes in bytes: what is copied between two looks at the context, and the buffer
// of the last resort.
const (
	piece  = 16 << 20
	buffer = 128 << 10
)

// Copier copies the content of files. The zero value is ready; it remembers what
// the file systems of the last files could not do, so one is for files of the
// same two places.
type Copier struct {
	// Check is asked now and then; an error of it ends the copy. It may be nil.
	Check func() error

	noClone bool
	noRange bool
	noSend  bool
	buf     []byte
}

// Content copies the first size bytes of from into the empty file to, both open
// descriptors, and makes it that long: zeros at the end if from is shorter. It
// may move the offsets of both.
//
// Errors: the system calls', among them ENOSPC and EDQUOT; Check's; the
// context's.
func (c *Copier) Content(ctx context.Context, to, from int, size int64) error {
	if size <= 0 {
		return nil
	}
	if !c.noClone {
		var st unix.Stat_t
		if err := unix.Fstat(from, &st); err != nil {
			return err
		}
		if st.Size == size { // a clone is of the whole file
			err := unix.IoctlFileClone(to, from)
			if err == nil {
				return nil
			}
			c.noClone = err == unix.EOPNOTSUPP || err == unix.EXDEV || err == unix.ENOTTY
		}
	}
	for at := int64(0); at < size; {
		data, hole, err := extent(from, at, size)
		if err != nil {
			return err
		}
		if err := c.span(ctx, to, from, data, hole); err != nil {
			return err
		}
		at = hole
	}
	return unix.Ftruncate(to, size)
}

// extent returns where data is next, at or behind an offset, and where it ends.
func extent(fd int, at, size int64) (data, hole int64, err error) {
	data, err = unix.Seek(fd, at, unix.SEEK_DATA)
	if err == unix.ENXIO {
		return size, size, nil // nothing but a hole
	}
	if err == nil {
		hole, err = unix.Seek(fd, data, unix.SEEK_HOLE)
	}
	if err != nil { // not every file system knows
		return at, size, nil
	}
	return min(data, size), min(hole, size), nil
}

// span copies the bytes from at to end, or to where the file ends.
func (c *Copier) span(ctx context.Context, to, from int, at, end int64) error {
	for at < end {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if c.Check != nil {
			if err := c.Check(); err != nil {
				return err
			}
		}
		n, err := c.some(to, from, at, min(end-at, piece))
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		at += int64(n)
	}
	return nil
}

// some copies up to that many bytes at an offset by the best call that the files
// take, and returns how many.
func (c *Copier) some(to, from int, at, most int64) (int, error) {
	if !c.noRange {
		in, out := at, at
		n, err := unix.CopyFileRange(from, &in, to, &out, int(most), 0)
		if !refused(err) && (n > 0 || err != nil) {
			return n, err
		}
		// No error and nothing copied is the end, or a file of /proc.
		c.noRange = err != nil
	}
	if !c.noSend {
		if _, err := unix.Seek(to, at, unix.SEEK_SET); err != nil {
			return 0, err
		}
		in := at
		n, err := unix.Sendfile(to, from, &in, int(most))
		if !refused(err) && (n > 0 || err != nil) {
			return n, err
		}
		c.noSend = err != nil
	}
	return c.readWrite(to, from, at, most)
}

// refused reports whether err says that a call does not do these files, rather
// than that it failed.
func refused(err error) bool {
	switch err {
	case unix.EXDEV, unix.EINVAL, unix.EOPNOTSUPP, unix.ENOSYS, unix.EPERM:
		return true
	}
	return false
}

func (c *Copier) readWrite(to, from int, at, most int64) (int, error) {
	if c.buf == nil {
		c.buf = make([]byte, buffer)
	}
	n, err := unix.Pread(from, c.buf[:min(most, buffer)], at)
	if err != nil {
		return 0, err
	}
	for done := 0; done < n; {
		m, err := unix.Pwrite(to, c.buf[done:n], at+int64(done))
		if err != nil && err != unix.EINTR {
			return 0, err
		}
		done += max(m, 0)
	}
	return n, nil
}
