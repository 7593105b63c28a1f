package layer

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/tarpass"
)

// regular unpacks a file with content.
func (u *unpacker) regular(ctx context.Context, p *parent, name, base string, h *tar.Header) error {
	mode := uint32(h.Mode) & 0o7777
	var fd int
	err := u.place(p, name, base, false, func() (err error) {
		fd, err = unix.Openat(p.fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode&0o777)
		return err
	})
	if err != nil {
		return err
	}
	err = u.fill(ctx, fd, name, h)
	if err == nil {
		err = u.fileAttributes(fd, p, name, h, mode)
	}
	return errors.Join(err, pathError("close", name, unix.Close(fd)))
}

// fill copies the content of an entry to fd.
func (u *unpacker) fill(ctx context.Context, fd int, name string, h *tar.Header) error {
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
		n, err := readFull(u.tr, u.buf[:min(h.Size-at, copyBuffer)])
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
			return u.src.badTar(err)
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
