package server

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/dns"
)

// What a container can make the supervisor keep is bounded: a megabyte or two.
const (
	maxClients    = 16 // of one name server, over TCP
	maxPipelined  = 4  // questions of a client that others are asked
	maxUnread     = 16 << 10
	maxQuestion   = 4 << 10          // bytes; a name, its type, and EDNS0 options
	clientPatient = 10 * time.Second // for a client that says nothing
)

// tcpWatch is a resolver in its role as the watcher of its listening socket.
type tcpWatch resolver

func (w *tcpWatch) ready(uint32) {
	r := (*resolver)(w)
	for range maxDatagrams {
		fd, _, err := unix.Accept4(r.tcp, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err != nil {
			if err != unix.EAGAIN && err != unix.EINTR && err != unix.ECONNABORTED {
				r.s.warn("accept", "container", r.id, "error", err)
			}
			return
		}
		c := &nameClient{r: r, fd: fd, last: time.Now()}
		if r.clients >= maxClients || r.s.poll.set(fd, c, unix.EPOLLIN) != nil {
			unix.Close(fd)
			continue
		}
		r.clients++
		r.s.names.clients[c] = struct{}{}
		r.s.names.tick()
	}
}

// nameClient is a client over TCP. Its questions may be answered in another order.
//
// Source: RFC 7766.
type nameClient struct {
	r    *resolver
	fd   int // -1: closed
	in   []byte
	out  []byte
	asks int
	over bool // it says no more
	last time.Time
}

func (c *nameClient) ready(events uint32) {
	if events&unix.EPOLLOUT != 0 {
		c.flush()
	}
	if c.fd < 0 || c.over || events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
		return
	}
	in := c.r.s.names.in[:maxQuestion]
	n, err := unix.Read(c.fd, in)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	case err != nil:
		c.close()
		return
	case n == 0:
		c.over = true
	}
	c.in = append(c.in, in[:n]...)
	c.last = time.Now()
	c.take()
}

// take answers the questions that are whole.
func (c *nameClient) take() {
	for c.fd >= 0 && len(c.in) >= 2 && c.room() {
		n := 2 + int(binary.BigEndian.Uint16(c.in))
		if n > maxQuestion {
			c.close()
			return
		}
		if len(c.in) < n {
			break
		}
		msg := c.in[2:n]
		c.in = c.in[n:]
		c.r.received(msg, nil, c)
	}
	c.watch()
}

// room reports whether another question may be read.
func (c *nameClient) room() bool { return c.asks < maxPipelined && len(c.out) < maxUnread }

// send sends an answer, or nothing.
func (c *nameClient) send(msg []byte) {
	if c.fd < 0 {
		return
	}
	if len(msg) > 0 && len(msg) <= dns.MaxLen {
		c.out = append(binary.BigEndian.AppendUint16(c.out, uint16(len(msg))), msg...)
	}
	c.flush()
}

func (c *nameClient) flush() {
	for c.fd >= 0 && len(c.out) > 0 {
		n, err := unix.Write(c.fd, c.out)
		if err == unix.EAGAIN || err == unix.EINTR {
			break
		}
		if err != nil {
			c.close()
			return
		}
		c.out = c.out[n:]
		c.last = time.Now()
	}
	c.watch()
}

// watch waits for what can be done next, or closes when there is nothing.
func (c *nameClient) watch() {
	if c.fd < 0 {
		return
	}
	var events uint32
	if c.room() && !c.over {
		events |= unix.EPOLLIN
	}
	if len(c.out) > 0 {
		events |= unix.EPOLLOUT
	}
	switch {
	case events == 0 && c.over && c.asks == 0:
		c.close()
	case events == 0: // EPOLLHUP cannot be masked and would come again and again
		c.r.s.poll.drop(c.fd)
	case c.r.s.poll.set(c.fd, c, events) != nil:
		c.close()
	}
}

// look closes a client that has been silent for long, and reads on for one whose
// answers have come.
func (c *nameClient) look(now time.Time) {
	if c.asks == 0 && now.Sub(c.last) >= clientPatient {
		c.close()
		return
	}
	c.take()
}

func (c *nameClient) close() {
	if c.fd >= 0 {
		delete(c.r.s.names.clients, c)
		c.shut()
	}
}

func (c *nameClient) shut() {
	c.r.s.poll.drop(c.fd)
	unix.Close(c.fd)
	c.fd, c.in, c.out = -1, nil, nil
	c.r.clients--
}
