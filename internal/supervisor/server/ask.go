package server

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/dns"
)

const (
	// maxAsks is how many questions of a container are under way outside.
	maxAsks = 256
	// askNext is when the next server is asked, too, if one has not answered.
	askNext = time.Second
	// askFor is how long servers have to answer: resolvers wait five seconds
	// (RES_TIMEOUT in resolv.conf(5)) and then ask again.
	askFor = 4500 * time.Millisecond
	// spareSockets is how many sockets are made at a time: entering a namespace
	// costs more than a socket.
	spareSockets = 4
)

// ask is a question that others are asked. First, all at once, the other hosts of
// the networks that may have the name. If none of them knows it, the servers are asked one after the
// other, the next one as soon as one cannot answer or is late; the first answer
// counts, from whichever it comes.
type ask struct {
	r       *resolver
	query   []byte
	from    unix.Sockaddr // over UDP
	client  *nameClient   // over TCP
	abroad  bool          // other hosts are being asked
	host    bool          // the servers are the host's
	servers []netip.Addr  // not asked yet
	legs    []*leg        // asked
	began   time.Time
	last    time.Time // of legs
	bad     []byte    // what a server said that cannot answer
	ended   bool
}

// ask passes a question on, which is kept.
func (r *resolver) ask(query []byte, from unix.Sockaddr, client *nameClient) {
	if r.asks >= maxAsks {
		r.reply(dns.Refused(r.s.names.out[:0], query), from, client)
		return
	}
	a := &ask{r: r, query: query, from: from, client: client, began: time.Now()}
	r.asks++
	if client != nil {
		client.asks++
	}
	r.s.names.asks[a] = struct{}{}
	r.s.names.tick()
	if !a.goAbroad() {
		a.outside()
	}
}

// outside asks the servers.
func (a *ask) outside() {
	r := a.r
	a.abroad = false
	if r.view.Wide {
		view := r.view // what may not be asked outside is said now
		view.Wide = false
		if reply, verdict := view.Answer(r.s.names.out[:0], a.query, a.client != nil); verdict == dns.Answered {
			a.finish(reply)
			return
		}
	}
	a.servers = r.servers
	if r.know.Host && len(a.servers) == 0 {
		a.host, a.servers = true, r.s.names.host.get()
	}
	a.next()
}

// next asks the next server. When there is none and none is asked, the question
// has failed.
func (a *ask) next() {
	if a.ended {
		return
	}
	if a.abroad {
		if len(a.legs) == 0 {
			a.outside()
		}
		return
	}
	if len(a.servers) > 0 {
		server := a.servers[0]
		a.servers = a.servers[1:]
		a.last = time.Now()
		a.leg().begin(server)
		return
	}
	if len(a.legs) > 0 {
		return
	}
	if a.bad != nil {
		a.finish(a.bad)
		return
	}
	a.finish(dns.Failed(a.r.s.names.out[:0], a.query))
}

// leg returns a new one.
func (a *ask) leg() *leg {
	l := &leg{a: a, fd: -1, id: uint16(rand.Uint32())} // ChaCha8, seeded by the kernel
	a.legs = append(a.legs, l)
	return l
}

// look is called now and then.
func (a *ask) look(now time.Time) {
	switch {
	case now.Sub(a.began) >= askFor:
		if a.bad == nil {
			a.bad = dns.Failed(nil, a.query)
		}
		a.finish(a.bad)
	case now.Sub(a.last) >= askNext && len(a.servers) > 0:
		a.next()
	}
}

// finish ends the question with an answer.
func (a *ask) finish(answer []byte) {
	if a.ended {
		return
	}
	delete(a.r.s.names.asks, a)
	a.end()
	a.r.reply(answer, a.from, a.client)
}

// end gives up what the question has.
func (a *ask) end() {
	a.ended = true
	a.r.asks--
	if a.client != nil {
		a.client.asks--
	}
	for _, l := range a.legs {
		l.close()
	}
	a.legs = nil
}

// leg is a question to one server, from a socket, and so a port, of its own: the
// kernel takes a random one.
//
// Source: RFC 5452, 9.2.
type leg struct {
	a    *ask
	peer *peer // that is asked; nil: a server
	fd   int
	id   uint16
	out  []byte // over TCP: not sent yet
	in   []byte // over TCP: what came
	done bool
}

// stream reports whether the question goes over TCP: as it came, but to other hosts.
func (l *leg) stream() bool { return l.a.client != nil && l.peer == nil }

// begin gets a socket and sends.
func (l *leg) begin(server netip.Addr) {
	family, to := sockaddr(netip.AddrPortFrom(server, 53))
	typ := unix.SOCK_DGRAM
	if l.stream() {
		typ = unix.SOCK_STREAM
	}
	if l.a.host {
		fd, err := newSocket(family, typ)
		l.send(fd, to, err)
		return
	}
	l.a.r.socket(family, typ, func(fd int, err error) { l.send(fd, to, err) })
}

func (l *leg) send(fd int, to unix.Sockaddr, err error) {
	if l.done || err != nil {
		closeFDs(fd)
		l.fail()
		return
	}
	l.fd = fd
	msg := make([]byte, 0, 2+len(l.a.query))
	if l.stream() {
		msg = binary.BigEndian.AppendUint16(msg, uint16(len(l.a.query)))
	}
	msg = dns.Prepare(msg, l.a.query, l.id)
	err = unix.Connect(fd, to)
	events := uint32(unix.EPOLLIN)
	if l.stream() {
		l.out = msg
		events = unix.EPOLLOUT
		if err == unix.EINPROGRESS {
			err = nil
		}
	} else if err == nil {
		_, err = unix.Write(fd, msg)
	}
	if err == nil {
		err = l.a.r.s.poll.set(fd, l, events)
	}
	if err != nil {
		l.fail()
	}
}

// ready reads the answer.
func (l *leg) ready(events uint32) {
	if l.stream() {
		l.readyStream(events)
		return
	}
	for range maxDatagrams {
		n, err := unix.Read(l.fd, l.a.r.s.names.in)
		if err == unix.EAGAIN || err == unix.EINTR {
			return
		}
		if err != nil { // ECONNREFUSED: nobody is there
			l.fail()
			return
		}
		if l.answered(l.a.r.s.names.in[:n]) {
			return
		}
	}
}

func (l *leg) readyStream(uint32) {
	in := l.a.r.s.names.in
	for len(l.out) > 0 {
		n, err := unix.Write(l.fd, l.out)
		if err == unix.EAGAIN || err == unix.EINTR {
			return
		}
		if err != nil {
			l.fail()
			return
		}
		if l.out = l.out[n:]; len(l.out) == 0 {
			if err := l.a.r.s.poll.set(l.fd, l, unix.EPOLLIN); err != nil {
				l.fail()
			}
			return
		}
	}
	n, err := unix.Read(l.fd, in)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	case err != nil || n == 0:
		l.fail()
		return
	}
	l.in = append(l.in, in[:n]...)
	if len(l.in) >= 2 {
		if want := 2 + int(binary.BigEndian.Uint16(l.in)); len(l.in) >= want && !l.answered(l.in[2:want]) {
			l.fail() // it was another answer
		}
	}
}

// answered takes a message that came, and reports whether it was the answer.
func (l *leg) answered(msg []byte) bool {
	a := l.a
	match, bad := dns.Match(msg, a.query, l.id)
	switch {
	case !match:
		return false
	case l.peer != nil && (bad || !dns.Found(msg)): // it does not know
		l.fail()
	case bad:
		a.bad = slices.Clone(msg)
		l.fail()
	default:
		a.finish(msg)
	}
	return true
}

// fail ends the leg; the next server is asked.
func (l *leg) fail() {
	if l.done {
		return
	}
	l.close()
	a := l.a
	if i := slices.Index(a.legs, l); i >= 0 {
		a.legs = slices.Delete(a.legs, i, i+1)
	}
	a.next()
}

func (l *leg) close() {
	l.done = true
	if l.fd >= 0 {
		l.a.r.s.poll.drop(l.fd)
		unix.Close(l.fd)
		l.fd = -1
	}
}

// socket calls done, now or later, with a socket of the container's namespace,
// which is the callee's.
func (r *resolver) socket(family, typ int, done func(fd int, err error)) {
	keep := family == unix.AF_INET && typ == unix.SOCK_DGRAM
	if n := len(r.spare); keep && n > 0 {
		fd := r.spare[n-1]
		r.spare = r.spare[:n-1]
		done(fd, nil)
		return
	}
	// The namespace is that of our own socket. Source: SIOCGSKNS, from Linux 4.10.
	ns, err := unix.IoctlRetInt(r.udp, unix.SIOCGSKNS)
	if err != nil {
		done(-1, err)
		return
	}
	want := 1
	if keep {
		want = spareSockets
	}
	go func() {
		var made []int
		err := inside(ns, func() error {
			for range want {
				fd, err := newSocket(family, typ)
				if err != nil {
					return err
				}
				made = append(made, fd)
			}
			return nil
		})
		unix.Close(ns)
		r.s.poll.post(func() {
			if len(made) == 0 {
				done(-1, err)
				return
			}
			if rest := made[1:]; r.closed || len(r.spare) >= spareSockets {
				closeFDs(rest...)
			} else {
				r.spare = append(r.spare, rest...)
			}
			done(made[0], nil)
		})
	}()
}
