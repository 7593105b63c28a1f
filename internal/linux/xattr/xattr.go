package xattr

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Absent reports whether err says that a file lacks the attribute.
func Absent(err error) bool { return errors.Is(err, unix.ENODATA) }

// Unsupported reports whether err says that the file system, or this kind of
// file on it, has no such attributes.
func Unsupported(err error) bool { return errors.Is(err, unix.EOPNOTSUPP) }

// at returns a path that names entry name of the directory fd; "" names the
// directory itself.
func at(fd int, name string) string {
	p := "/proc/self/fd/" + strconv.Itoa(fd)
	if name == "" {
		return p + "/."
	}
	return p + "/" + name
}

// Set sets an attribute of the open file fd.
func Set(fd int, attr string, value []byte) error {
	return wrap("fsetxattr", attr, unix.Fsetxattr(fd, attr, value, 0))
}

// SetAt sets an attribute of name in the directory fd, without following a
// link; an empty name is the directory itself. fd may be opened with O_PATH.
func SetAt(fd int, name, attr string, value []byte) error {
	return wrap("lsetxattr", attr, unix.Lsetxattr(at(fd, name), attr, value, 0))
}

// Get returns the value of an attribute of the open file fd; see Absent.
func Get(fd int, attr string) ([]byte, error) {
	v, err := read(func(b []byte) (int, error) { return unix.Fgetxattr(fd, attr, b) })
	return v, wrap("fgetxattr", attr, err)
}

// GetAt returns the value of an attribute of name in the directory fd, without
// following a link; an empty name is the directory itself.
func GetAt(fd int, name, attr string) ([]byte, error) {
	p := at(fd, name)
	v, err := read(func(b []byte) (int, error) { return unix.Lgetxattr(p, attr, b) })
	return v, wrap("lgetxattr", attr, err)
}

// List returns the names of the attributes of the open file fd; none when the
// file system has no attributes.
func List(fd int) ([]string, error) {
	return list("flistxattr", func(b []byte) (int, error) { return unix.Flistxattr(fd, b) })
}

// ListAt returns the names of the attributes of name in the directory fd,
// without following a link; an empty name is the directory itself.
func ListAt(fd int, name string) ([]string, error) {
	p := at(fd, name)
	return list("llistxattr", func(b []byte) (int, error) { return unix.Llistxattr(p, b) })
}

func list(op string, call func([]byte) (int, error)) ([]string, error) {
	b, err := read(call)
	if Unsupported(err) || err == nil && len(b) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, wrap(op, "", err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"), nil
}

// read calls a function that fills a buffer and says ERANGE when it is too
// small, with larger and larger buffers. Values are at most 64 kB long
// (XATTR_SIZE_MAX), lists too (XATTR_LIST_MAX).
func read(call func([]byte) (int, error)) ([]byte, error) {
	var small [128]byte
	n, err := call(small[:])
	if err == nil {
		return append([]byte(nil), small[:n]...), nil
	}
	if !errors.Is(err, unix.ERANGE) {
		return nil, err
	}
	large := make([]byte, 65536)
	n, err = call(large)
	if err != nil {
		return nil, err
	}
	return large[:n:n], nil
}

func wrap(op, attr string, err error) error {
	if err == nil {
		return nil
	}
	if attr != "" {
		op += " " + attr
	}
	return os.NewSyscallError(op, err)
}
