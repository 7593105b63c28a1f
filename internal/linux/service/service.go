package service

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// first is the first descriptor that a service manager passes.
const first = 3

// Socket returns the one socket that the service manager has opened for this
// process, close-on-exec and not blocking, or 0 if there is none. It takes the
// variables that told of it out of the environment: children are not meant.
func Socket() int {
	pid, n := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name) // fails for impossible names only
	}
	if pid != strconv.Itoa(os.Getpid()) || n != "1" {
		return 0
	}
	unix.CloseOnExec(first)
	if unix.SetNonblock(first, true) != nil { // EBADF: it was promised in vain
		return 0
	}
	return first
}

// Notify tells the service manager about our state, such as "READY=1". Without
// one it does nothing. It does not block for longer than a datagram takes.
func Notify(state string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	if rest, abstract := strings.CutPrefix(name, "@"); abstract {
		name = "\x00" + rest
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	return os.NewSyscallError("sendto", unix.Sendto(fd, []byte(state), unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: name}))
}
