package sys

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Error names the call and its object; nil stays nil. Its chain holds the errno.
func Error(call, object string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: call, Path: object, Err: err}
}

// Retry calls f until it does not return EINTR.
func Retry(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// CloseAll closes descriptors; negative ones are skipped.
func CloseAll(fds ...int) {
	for _, fd := range fds {
		if fd >= 0 {
			// The descriptors closed here were only read or passed on.
			_ = unix.Close(fd)
		}
	}
}

// FDPath returns the path by which the process itself can name what an open
// descriptor refers to; see proc_pid_fd(5).
func FDPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// ReadFile reads a file, as os.ReadFile does but with the three or four system
// calls that it takes: the Go runtime's poller, which waits for nothing there,
// takes as many again.
func ReadFile(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, Error("open", path, err)
	}
	defer CloseAll(fd)
	var first [4096]byte // most are shorter, and take no page of the heap
	b := first[:0]
	for {
		n := 0
		err := Retry(func() (err error) { n, err = unix.Read(fd, b[len(b):cap(b)]); return err })
		if err != nil {
			return nil, Error("read", path, err)
		}
		b = b[:len(b)+n]
		switch {
		case n == 0 && len(b) <= len(first):
			return bytes.Clone(b), nil
		case n == 0:
			return b, nil
		case len(b) == cap(b):
			b = slices.Grow(b, max(rest(fd, len(b))+1, len(b)))
		}
	}
}

// rest returns how much of a file of a known size is still to be read; 0 where
// the kernel makes the content as it is read: proc(5).
func rest(fd, from int) int {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0
	}
	return int(min(st.Size, 1<<30)) - from
}

// Features tells what the running kernel offers.
type Features struct {
	// MountSetattr is mount_setattr(2), Linux 5.12.
	MountSetattr bool
	// LowerdirAppend is overlayfs's option "lowerdir+", Linux 6.5.
	LowerdirAppend bool
}

// HasMountSetattr is Features.MountSetattr alone.
func HasMountSetattr() bool {
	return unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}) != unix.ENOSYS
}

// Probe finds the features out by trying them. It needs CAP_SYS_ADMIN for some;
// without it they count as missing.
func Probe() Features {
	var f Features
	f.MountSetattr = HasMountSetattr()
	if fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC); err == nil {
		// Older kernels take every option now and look at it when they mount.
		f.LowerdirAppend = unix.FsconfigSetString(fd, "lowerdir+", "/") == nil && unix.FsconfigSetString(fd, "no_such_option", "1") != nil
		CloseAll(fd)
	}
	return f
}
