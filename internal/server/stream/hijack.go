package stream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/engine"
)

// Hijack takes the connection of a request over, writes head (a whole HTTP
// header) to it and returns it as a file, which the caller closes. For a
// connection that is no plain socket, such as TLS, the file is one end of a
// socket pair, and two goroutines copy until either side is done.
//
// With settle it returns only when the client has read the header, or after a
// moment: there are clients that read the header through a buffer which they
// then bypass, and lose what comes right behind it.
//
// The request's body must have been read. After an error the connection is
// closed and no answer can be sent any more.
func Hijack(w http.ResponseWriter, head []byte, settle bool) (engine.Conn, error) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return engine.Conn{}, fmt.Errorf("take over the connection: %w", err)
	}
	c, err := detach(conn, rw.Reader, head)
	if err != nil {
		return engine.Conn{}, errors.Join(err, conn.Close())
	}
	if settle {
		settled(c.File)
	}
	return c, nil
}

type peeker interface {
	Buffered() int
	Peek(n int) ([]byte, error)
}

func detach(conn net.Conn, r peeker, head []byte) (engine.Conn, error) {
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return engine.Conn{}, err
	}
	early, err := r.Peek(r.Buffered())
	if err != nil {
		return engine.Conn{}, err
	}
	if _, err := conn.Write(head); err != nil {
		return engine.Conn{}, err
	}
	early = slices.Clone(early)
	if s, ok := conn.(interface{ File() (*os.File, error) }); ok {
		f, err := s.File()
		if err != nil {
			return engine.Conn{}, err
		}
		// Closing the original leaves the duplicate's connection open.
		if err := conn.Close(); err != nil {
			return engine.Conn{}, errors.Join(err, f.Close())
		}
		return engine.Conn{File: f, Early: early}, nil
	}
	ours, theirs, err := pair()
	if err != nil {
		return engine.Conn{}, err
	}
	go relay(conn, ours)
	return engine.Conn{File: theirs, Early: early}, nil
}

const (
	settleUnix = 100 * time.Millisecond // at most
	settleTCP  = 10 * time.Millisecond  // always: only the peer's kernel answers
)

// settled waits until the peer of a unix socket has read what was written. Of
// other sockets that is not known; there it waits for a while.
//
// Source: SIOCOUTQ of a unix socket counts what the peer has not read yet,
// unix_outq_len in net/unix/af_unix.c.
func settled(f *os.File) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	family, unread := 0, 0
	if raw.Control(func(fd uintptr) { family, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN) }) != nil || err != nil {
		return
	}
	if family != unix.AF_UNIX {
		<-time.After(settleTCP)
		return
	}
	tick := time.NewTicker(100 * time.Microsecond)
	defer tick.Stop()
	for end := time.Now().Add(settleUnix); time.Now().Before(end); <-tick.C {
		if raw.Control(func(fd uintptr) { unread, err = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) }) != nil || err != nil || unread == 0 {
			return
		}
	}
}

// Duplicate returns another descriptor of the same open file, which the caller
// closes. Like f it does not block.
func Duplicate(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var dupErr error
	if err := raw.Control(func(p uintptr) { fd, dupErr = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, os.NewSyscallError("fcntl", dupErr)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// pair returns two connected stream sockets: a connection and a file.
func pair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "stream"), os.NewFile(uintptr(fds[1]), "stream")
	c, err := net.FileConn(ours) // a duplicate
	err = errors.Join(err, ours.Close())
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return c.(*net.UnixConn), theirs, nil
}

// relay copies between a client and our end of a pair. The client's end of
// input is passed on; the end of output ends both.
func relay(client net.Conn, ours *net.UnixConn) {
	in := make(chan struct{})
	go func() {
		defer close(in)
		io.Copy(ours, client) // the client left or our side was closed: both are an end
		ours.CloseWrite()
	}()
	io.Copy(client, ours)
	if c, ok := client.(interface{ CloseWrite() error }); ok {
		c.CloseWrite() // TLS says goodbye
	}
	client.Close()
	ours.Close()
	<-in
}
