package tarpass

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

const (
	// Protocol is the name for the headers Upgrade and Connection.
	Protocol = "lade-files"
	// Record is the pax record of an entry whose content is a descriptor.
	Record = "LADE.size"
	// Least is the size, in bytes, from which a file is passed. Copying less costs
	// no more than the system calls of passing it.
	Least = 256 << 10
)

const (
	most      = 64               // descriptors of one message; senders here use one
	handshake = 30 * time.Second // the peer's first byte
)

// Conn is a connection whose bytes can have descriptors with them.
type Conn struct {
	conn *net.UnixConn
	next int // goes with the next bytes; -1: none
	got  []*os.File
}

// New returns a connection over c, which it owns from then on.
func New(c *net.UnixConn) *Conn { return &Conn{conn: c, next: -1} }

// Close closes the connection and what was received and not taken.
func (c *Conn) Close() error {
	errs := []error{c.conn.Close()}
	for _, f := range c.got {
		errs = append(errs, f.Close())
	}
	c.got = nil
	return errors.Join(errs...)
}

// CloseWrite tells the peer that this was all.
func (c *Conn) CloseWrite() error { return c.conn.CloseWrite() }

// SetDeadline is net.Conn's.
func (c *Conn) SetDeadline(t time.Time) error { return c.conn.SetDeadline(t) }

// Ask is the client's half of finding out whether descriptors come through.
// Errors: they do not, whatever the reason.
func (c *Conn) Ask() error { return c.probe(c.greet, c.greeted) }

// Answer is the daemon's half.
func (c *Conn) Answer() error { return c.probe(c.greeted, c.greet) }

func (c *Conn) probe(steps ...func() error) error {
	if err := c.conn.SetDeadline(time.Now().Add(handshake)); err != nil {
		return err
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return c.conn.SetDeadline(time.Time{})
}

func (c *Conn) greet() error {
	f, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer f.Close()
	c.Pass(int(f.Fd()))
	_, err = c.Write([]byte{0})
	return err
}

func (c *Conn) greeted() error {
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		return err
	}
	if len(c.got) == 0 {
		return errors.New("descriptors do not come through")
	}
	err := c.got[0].Close()
	c.got = c.got[1:]
	return err
}

// Pass sends a descriptor with the next bytes that are written; it must stay open
// until then.
func (c *Conn) Pass(fd int) { c.next = fd }

// Write implements io.Writer.
func (c *Conn) Write(p []byte) (int, error) {
	if c.next < 0 || len(p) == 0 {
		return c.conn.Write(p)
	}
	n, _, err := c.conn.WriteMsgUnix(p[:1], unix.UnixRights(c.next), nil)
	if err != nil || n < 1 {
		return 0, err
	}
	c.next = -1
	if len(p) == 1 { // the peer may have answered all of it by now, and closed
		return 1, nil
	}
	n, err = c.conn.Write(p[1:])
	return n + 1, err
}

// Read implements io.Reader. Descriptors that come with the bytes are kept for
// Take.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	oob := make([]byte, unix.CmsgSpace(most*4))
	n, oobn, flags, _, err := c.conn.ReadMsgUnix(p, oob)
	if oobn > 0 {
		if got := c.keep(oob[:oobn]); err == nil {
			err = got
		}
	}
	if err == nil && flags&unix.MSG_CTRUNC != 0 {
		err = errdefs.Invalidf("more descriptors than one message may have")
	}
	if err == nil && n == 0 || errors.Is(err, io.EOF) {
		err = io.EOF // bare, as readers want it
	}
	return max(n, 0), err
}

func (c *Conn) keep(oob []byte) error {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("control message: %w", err)
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // no rights
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			c.got = append(c.got, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return nil
}

// Take returns the oldest descriptor that was received, which the caller closes.
// Errors: Invalid if there is none, or it is of something that is not copied from
// (see the package's comment).
func (c *Conn) Take() (*os.File, error) {
	if len(c.got) == 0 {
		return nil, errdefs.Invalidf("a file was announced in the archive, and no descriptor came")
	}
	f := c.got[0]
	c.got = c.got[1:]
	if !Passable(int(f.Fd())) {
		return nil, errors.Join(errdefs.Invalidf("a descriptor in the archive is not of a regular file"), f.Close())
	}
	return f, nil
}

// Gone returns an error once the peer has closed the connection, without reading
// from it.
func (c *Conn) Gone() error {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return err
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(p, 0)
		gone = err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
	})
	if err == nil && gone {
		err = fmt.Errorf("the other side of the copy: %w", unix.EPIPE)
	}
	return err
}

// Passable reports whether fd is of a file that one side reads for the other: a
// regular one that neither a program serves nor the kernel, which in /proc looks at
// who reads.
func Passable(fd int) bool {
	var st unix.Stat_t
	var fs unix.Statfs_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG &&
		unix.Fstatfs(fd, &fs) == nil && fs.Type != unix.FUSE_SUPER_MAGIC && fs.Type != unix.PROC_SUPER_MAGIC
}
