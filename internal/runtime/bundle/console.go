package bundle

import (
	"errors"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/sys"
)

// consoleName is the socket's name in its directory.
const consoleName = "tty"

// Console is a socket on which a runtime hands over the master side of the
// terminal that it has made.
type Console struct {
	dir, sock int
}

// Listen makes a socket in a directory. The caller closes it. The path of the
// directory may be longer than a socket's address can be, so it is named by a
// descriptor.
func Listen(dir string) (_ *Console, err error) {
	c := &Console{dir: -1, sock: -1}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if c.dir, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, sys.Error("open", dir, err)
	}
	if c.sock, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return nil, sys.Error("socket", consoleName, err)
	}
	if err := unix.Bind(c.sock, &unix.SockaddrUnix{Name: c.Path()}); err != nil {
		return nil, sys.Error("bind", c.Path(), err)
	}
	return c, sys.Error("listen", c.Path(), unix.Listen(c.sock, 1))
}

// Path is the socket's path, for other processes.
func (c *Console) Path() string {
	return "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(c.dir) + "/" + consoleName
}

// Receive returns the terminal's master side, which the caller closes. It is to
// be called when the runtime has said that it is done: what it sent is there by
// then. Errors: Unavailable when it has sent nothing.
func (c *Console) Receive() (int, error) {
	const patience = time.Second
	poll := []unix.PollFd{{Fd: int32(c.sock), Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, int(patience.Milliseconds())); err != nil || n == 0 {
		return -1, errdefs.Unavailablef("the runtime has handed over no terminal: %w", errors.Join(err, unix.ETIMEDOUT))
	}
	conn, _, err := unix.Accept4(c.sock, unix.SOCK_CLOEXEC)
	if err != nil {
		return -1, sys.Error("accept", consoleName, err)
	}
	defer sys.CloseAll(conn)
	data, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(conn, data, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, sys.Error("recvmsg", consoleName, err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return -1, errdefs.Unavailablef("the runtime has handed over no terminal: %w", errors.Join(err, unix.EPROTO))
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		sys.CloseAll(fds...)
		return -1, errdefs.Unavailablef("the runtime has handed over no terminal: %w", errors.Join(err, unix.EPROTO))
	}
	return fds[0], nil
}

// Close removes the socket.
func (c *Console) Close() {
	if c.sock >= 0 {
		_ = unix.Unlinkat(c.dir, consoleName, 0) // it goes with the bundle otherwise
	}
	sys.CloseAll(c.sock, c.dir)
}
