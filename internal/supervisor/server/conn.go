package server

import (
	"io"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/supervisor/wire"
)

// maxUnsent is how many frames wait for a daemon that does not read. It is
// disconnected then, and learns everything when it connects again.
const maxUnsent = 16 << 10

// listener accepts daemons.
type listener struct{ s *Server }

func (l listener) ready(uint32) {
	for {
		fd, _, err := unix.Accept4(l.s.sock, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err != nil {
			if err != unix.EAGAIN && err != unix.EINTR && err != unix.ECONNABORTED {
				l.s.warn("accept", "error", err)
			}
			return
		}
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil || cred.Uid != 0 && int(cred.Uid) != unix.Geteuid() {
			l.s.warn("a stranger connected", "credentials", cred, "error", err)
			unix.Close(fd)
			continue
		}
		c := &conn{s: l.s, fd: fd}
		if err := l.s.poll.set(fd, c, unix.EPOLLIN); err != nil {
			l.s.warn("accept", "error", err)
			unix.Close(fd)
			continue
		}
		l.s.conns[c] = struct{}{}
		l.s.activity++
	}
}

// conn is a connected daemon.
type conn struct {
	s       *Server
	fd      int // -1: closed
	greeted bool
	starts  int // of this daemon, not answered yet
	unsent  []unsent
}

// unsent is a frame that did not fit into the socket, with duplicates of its
// descriptors.
type unsent struct {
	p     *wire.Packet
	files []int
}

func (u unsent) close() {
	u.p.Close()
	for _, fd := range u.files {
		unix.Close(fd)
	}
}

func (c *conn) ready(events uint32) {
	if events&unix.EPOLLOUT != 0 {
		c.flush()
	}
	for range 16 { // then the others' turn
		if c.fd < 0 {
			return
		}
		f, err := wire.Receive(c.fd, c.s.packet, unix.MSG_DONTWAIT)
		if err == unix.EAGAIN {
			return
		}
		if err != nil {
			if err != io.EOF && err != unix.ECONNRESET {
				c.s.log.Warn("a daemon is disconnected", "error", err)
			}
			c.close()
			return
		}
		r := &request{c: c, f: f, id: f.Request, typ: f.Type}
		if c.s.poll.guard(func() { c.s.dispatch(r) }) != nil {
			r.fail(errdefs.Internalf("supervisor: %v failed, see its log", f.Type))
		}
		r.f = nil
		f.Close()
	}
}

func (c *conn) close() {
	if c.fd < 0 {
		return
	}
	c.s.poll.drop(c.fd)
	unix.Close(c.fd)
	c.fd = -1
	for _, u := range c.unsent {
		u.close()
	}
	c.unsent = nil
	c.s.orphans += c.starts
	delete(c.s.conns, c)
	c.s.trim()
	c.s.checkIdle()
}

// send sends a frame now, or later if the daemon is slow. Files stay the
// caller's.
func (c *conn) send(request uint32, msg any, files []int) {
	if c.fd < 0 {
		return
	}
	p, err := wire.NewPacket(request, msg, files)
	if err != nil {
		c.s.log.Error("a frame cannot be sent", "error", err)
		if request != 0 {
			c.send(request, wire.NewError(err, 0), nil)
		}
		return
	}
	if len(c.unsent) == 0 {
		if err = p.Send(c.fd, unix.MSG_DONTWAIT); err != unix.EAGAIN {
			p.Close()
			if err != nil { // EPIPE, ECONNRESET; Receive says so, too
				c.close()
			}
			return
		}
	}
	u := unsent{p: p}
	for _, fd := range files {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			u.close()
			c.close()
			return
		}
		u.files = append(u.files, dup)
	}
	u.p.SetFiles(u.files)
	c.unsent = append(c.unsent, u)
	if len(c.unsent) > maxUnsent {
		c.s.log.Warn("a daemon does not read and is disconnected")
		c.close()
		return
	}
	c.watch()
}

// flush sends what is unsent.
func (c *conn) flush() {
	for len(c.unsent) > 0 {
		u := c.unsent[0]
		err := u.p.Send(c.fd, unix.MSG_DONTWAIT)
		if err == unix.EAGAIN {
			return
		}
		if err != nil {
			c.close()
			return
		}
		u.close()
		c.unsent[0] = unsent{}
		c.unsent = c.unsent[1:]
	}
	c.unsent = nil
	c.watch()
}

func (c *conn) watch() {
	events := uint32(unix.EPOLLIN)
	if len(c.unsent) > 0 {
		events |= unix.EPOLLOUT
	}
	if err := c.s.poll.set(c.fd, c, events); err != nil {
		c.s.log.Error("a daemon is disconnected", "error", err)
		c.close()
	}
}

// event tells every daemon.
func (s *Server) event(msg any) {
	for c := range s.conns {
		if c.greeted {
			c.send(0, msg, nil)
		}
	}
}

// request is a frame that waits for its answer, once, by ok, answer or fail.
type request struct {
	c        *conn
	f        *wire.Frame // nil once dispatched: only what it took remains
	id       uint32
	typ      wire.Type
	answered bool
}

func (r *request) answer(msg any, files []int) {
	if r.answered {
		return
	}
	r.answered = true
	r.c.send(r.id, msg, files)
}

func (r *request) ok() { r.answer(wire.OK{}, nil) }

// fail answers with an error; nil is ok.
func (r *request) fail(err error) {
	if err == nil {
		r.ok()
		return
	}
	r.failCode(err, 0)
}

func (r *request) failCode(err error, code int) { r.answer(wire.NewError(err, code), nil) }
