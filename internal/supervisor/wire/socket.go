package wire

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// SocketName is the supervisor's socket in its root directory.
const SocketName = "supervisor.sock"

// address returns the address of the socket in root. A path that is too long
// for sockaddr_un is reached through a descriptor of the directory, which the
// caller must release.
func address(root string) (sa *unix.SockaddrUnix, release func(), err error) {
	path := filepath.Join(root, SocketName)
	if len(path) < 108 { // sizeof sun_path, unix(7)
		return &unix.SockaddrUnix{Name: path}, func() {}, nil
	}
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: root, Err: err}
	}
	sa = &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(dir) + "/" + SocketName}
	return sa, func() { unix.Close(dir) }, nil
}

// Listen returns a listening, non-blocking socket in root that only its owner
// may connect to. A socket that is there already is replaced: the caller has
// made sure that nobody serves it.
func Listen(root string) (int, error) {
	path := filepath.Join(root, SocketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return -1, err
	}
	sa, release, err := address(root)
	if err != nil {
		return -1, err
	}
	defer release()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = os.NewSyscallError("bind", unix.Bind(fd, sa))
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err == nil {
		err = os.NewSyscallError("listen", unix.Listen(fd, 64))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Dial returns a non-blocking socket connected to the supervisor in root.
// Errors: the bare errno in an *os.SyscallError; ENOENT and ECONNREFUSED mean
// that there is none.
func Dial(root string) (int, error) {
	sa, release, err := address(root)
	if err != nil {
		return -1, err
	}
	defer release()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	for {
		if err = unix.Connect(fd, sa); err != unix.EINTR {
			break
		}
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("connect", err)
	}
	return fd, nil
}
