package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Sizes of buffers for answers.
const (
	dumpSize = 32 << 10 // the most that the kernel puts into one datagram of a dump (netlink_dump)
	getSize  = 8 << 10  // one object
	ackSize  = 128      // an acknowledgement without the request (NETLINK_CAP_ACK): 36
)

// Conn is a netlink socket.
type Conn struct {
	// Buffer, unless nil, takes the answers of Get and Dump instead of a new
	// one for each call; 32 KiB hold all. Whoever changes it makes no call
	// meanwhile.
	Buffer []byte

	mu  sync.Mutex
	fd  int
	seq uint32
	ack [ackSize]byte
}

// Dial opens a socket of a netlink protocol (unix.NETLINK_ROUTE, …) in the
// network namespace of the calling thread. The caller must Close it.
func Dial(protocol int) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket(AF_NETLINK)", err)
	}
	// An answer repeats only the header of the request that failed.
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("setsockopt(NETLINK_CAP_ACK)", err)
	}
	return &Conn{fd: fd}, nil
}

// Close closes the socket.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return nil
	}
	fd := c.fd
	c.fd = -1
	return os.NewSyscallError("close", unix.Close(fd))
}

// Do sends the request and returns the error of the first message that failed,
// as an unix.Errno that errors.Is finds. It blocks for as long as the kernel
// works.
func (c *Conn) Do(r *Request) error {
	if r.n == 0 {
		return nil
	}
	r.ack()
	return c.do(r, r.n)
}

// DoAcked is Do for a request whose last acknowledged message is not its last
// one: message is its number, counted from 1.
func (c *Conn) DoAcked(r *Request, message int) error { return c.do(r, message) }

func (c *Conn) do(r *Request, acked int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.seq + 1
	c.seq = r.seal(first)
	if err := c.send(r); err != nil {
		return err
	}
	for {
		b, err := c.recv(c.ack[:])
		if err != nil {
			return err
		}
		for m := range messages(b) {
			if m.Type != unix.NLMSG_ERROR || m.Seq-first >= uint32(r.n) || len(m.Data) < 4 {
				continue // of an earlier request that was given up
			}
			if errno := int32(binary.NativeEndian.Uint32(m.Data)); errno != 0 {
				// The answers to the rest are skipped by their numbers.
				return &Error{Message: int(m.Seq-first) + 1, Errno: unix.Errno(-errno)}
			}
			if m.Seq == first+uint32(acked)-1 {
				return nil
			}
		}
	}
}

// Error is the kernel's refusal of a message.
type Error struct {
	Message int // its number in the request, from 1
	Errno   unix.Errno
}

// Error returns the kernel's words.
func (e *Error) Error() string { return fmt.Sprintf("netlink message %d: %v", e.Message, e.Errno) }

// Unwrap returns the errno.
func (e *Error) Unwrap() error { return e.Errno }

func (c *Conn) buffer(size int) []byte {
	if len(c.Buffer) >= size {
		return c.Buffer
	}
	return make([]byte, size)
}

func (c *Conn) send(r *Request) error {
	err := unix.Sendto(c.fd, r.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	if err == unix.EMSGSIZE { // larger than the send buffer: a whole table
		if err = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*len(r.b)+4096); err == nil {
			err = unix.Sendto(c.fd, r.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		}
	}
	return os.NewSyscallError("sendto(AF_NETLINK)", err)
}

func (c *Conn) recv(buf []byte) ([]byte, error) {
	for {
		n, _, err := unix.Recvfrom(c.fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("recvfrom(AF_NETLINK)", err)
		}
		return buf[:n], nil
	}
}

// Dump sends a request of one message with NLM_F_DUMP and calls f with each
// answer; its data is valid during the call only. A dump that a change
// interrupted is repeated, after a call of again, which forgets what f saw.
// Source: netlink(7), NLM_F_DUMP_INTR.
func (c *Conn) Dump(r *Request, again func(), f func(Message)) error {
	// Where a thousand containers start, nine of ten dumps of all links are
	// interrupted.
	const tries = 256
	for range tries {
		again()
		interrupted, err := c.dump(r, f)
		if err != nil || !interrupted {
			return err
		}
	}
	return os.NewSyscallError("netlink dump", unix.EINTR)
}

func (c *Conn) dump(r *Request, f func(Message)) (interrupted bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq = r.seal(c.seq + 1)
	if err := c.send(r); err != nil {
		return false, err
	}
	buf := c.buffer(dumpSize)
	for {
		b, err := c.recv(buf)
		if err != nil {
			return false, err
		}
		for m := range messages(b) {
			if m.Seq != c.seq {
				continue
			}
			interrupted = interrupted || m.Flags&unix.NLM_F_DUMP_INTR != 0
			switch m.Type {
			case unix.NLMSG_DONE:
				return interrupted, nil
			case unix.NLMSG_ERROR:
				if errno := -int32(Uint32(m.Data)); errno != 0 {
					return interrupted, &Error{Message: 1, Errno: unix.Errno(errno)}
				}
				return interrupted, nil
			default:
				f(m)
			}
		}
	}
}

// Get sends a request of one message without NLM_F_DUMP and calls f with the
// answer; its data is valid during the call only.
func (c *Conn) Get(r *Request, f func(Message)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.ack()
	c.seq = r.seal(c.seq + 1)
	if err := c.send(r); err != nil {
		return err
	}
	buf := c.buffer(getSize)
	for {
		b, err := c.recv(buf)
		if err != nil {
			return err
		}
		for m := range messages(b) {
			switch {
			case m.Seq != c.seq:
			case m.Type == unix.NLMSG_ERROR:
				if errno := -int32(Uint32(m.Data)); errno != 0 {
					return &Error{Message: 1, Errno: unix.Errno(errno)}
				}
				return nil
			default:
				f(m)
			}
		}
	}
}

// Monitor receives the notifications of multicast groups.
type Monitor struct {
	f   *os.File // nonblocking, so that Close wakes Receive
	buf []byte
}

// Listen joins multicast groups of a protocol in the network namespace of the
// calling thread. The caller must Close the Monitor.
func Listen(protocol int, groups ...int) (*Monitor, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket(AF_NETLINK)", err)
	}
	f := os.NewFile(uintptr(fd), "netlink")
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, errors.Join(os.NewSyscallError("bind(AF_NETLINK)", err), f.Close())
	}
	for _, g := range groups {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g); err != nil {
			return nil, errors.Join(os.NewSyscallError("setsockopt(NETLINK_ADD_MEMBERSHIP)", err), f.Close())
		}
	}
	return &Monitor{f: f, buf: make([]byte, getSize)}, nil
}

// Receive blocks for a datagram and calls f with each message in it. One
// goroutine calls it.
// Errors: ENOBUFS when notifications were lost, os.ErrClosed after Close.
func (m *Monitor) Receive(f func(Message)) error {
	n, err := m.f.Read(m.buf)
	if err != nil {
		return err
	}
	for msg := range messages(m.buf[:n]) {
		f(msg)
	}
	return nil
}

// Close ends Receive.
func (m *Monitor) Close() error { return m.f.Close() }
