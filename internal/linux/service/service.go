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
// process, close-on-exec and not blocking, or 0 if there is none, and by their names
// the descriptors that it has kept since Keep, close-on-exec and the caller's. It
// takes the variables that told of them out of the environment: children are not
// meant.
func Socket() (socket int, kept map[string]int) {
	pid, n, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name) // fails for impossible names only
	}
	count, err := strconv.Atoi(n)
	if err != nil || pid != strconv.Itoa(os.Getpid()) {
		return 0, nil
	}
	all := strings.Split(names, ":")
	for fd := first; fd < first+count; fd++ {
		unix.CloseOnExec(fd)
		if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && listens == 1 {
			if socket == 0 && unix.SetNonblock(fd, true) == nil {
				socket = fd
			}
			continue
		}
		if i := fd - first; i < len(all) && all[i] != "" { // else EBADF, perhaps: it was promised in vain
			if kept == nil {
				kept = map[string]int{}
			}
			kept[all[i]] = fd
		}
	}
	return socket, kept
}

// Keep gives the service manager a duplicate of a descriptor, which it keeps for
// the next process of the service, under a name without colons. Without a service
// manager, or where the unit does not allow it, it does nothing. It does not block:
// a manager that has too much to hear is an error (EAGAIN).
//
// Source: FDSTORE in sd_notify(3); FDPOLL=0 from systemd 246: a terminal is kept
// although nobody has it open for a moment.
func Keep(name string, fd int) error {
	return notify("FDSTORE=1\nFDPOLL=0\nFDNAME="+name, unix.UnixRights(fd), unix.MSG_DONTWAIT)
}

// Drop takes back what Keep has given. It is idempotent, and blocks as little.
func Drop(name string) error {
	return notify("FDSTOREREMOVE=1\nFDNAME="+name, nil, unix.MSG_DONTWAIT)
}

// Notify tells the service manager about our state, such as "READY=1". Without
// one it does nothing. It does not block for longer than a datagram takes.
func Notify(state string) error { return notify(state, nil, 0) }

func notify(state string, rights []byte, flags int) error {
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
	return os.NewSyscallError("sendmsg", unix.Sendmsg(fd, []byte(state), rights, &unix.SockaddrUnix{Name: name}, unix.MSG_NOSIGNAL|flags))
}
