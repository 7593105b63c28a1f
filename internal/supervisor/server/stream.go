package server

import (
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/logs"
	"lade/internal/supervisor/wire"
)

// linger is how long a stream that we ended waits for the client to end it,
// too. Closing a socket with unread input would make the kernel reset the
// connection, and the client would lose the last output.
const linger = 3 * time.Second

// stream is a client attached to a process. Its life:
//
//	attached ──process ended, detached──▶ finishing ──queue sent──▶ lingering ──▶ closed
//	    └───────────────────── the client left, or an error ──────────────────────▶
type stream struct {
	s              *Server
	p              *process // nil unless attached
	fd             int      // -1: closed
	stdin          bool     // its input goes to the process, until its end
	stdout, stderr bool
	raw            bool
	lingering      bool
	keys           detacher
	queue          []byte // output that the client did not take yet
}

// newStream takes the client's socket from a frame. It is not watched before
// join.
func (s *Server) newStream(f *wire.Frame, a *wire.Attach, p *process) (*stream, error) {
	if a.Stream == 0 {
		return nil, errdefs.Invalidf("supervisor: attach without a stream")
	}
	if len(a.DetachKeys) > 16 {
		return nil, errdefs.Invalidf("supervisor: %d detach keys", len(a.DetachKeys))
	}
	fd, err := f.File(a.Stream)
	if err != nil {
		return nil, err
	}
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_STREAM {
		unix.Close(fd)
		return nil, errdefs.Invalidf("supervisor: the stream to attach is not a stream socket")
	}
	st := &stream{
		s: s, p: p, fd: fd, stdin: a.Stdin && p.stdio.Stdin, stdout: a.Stdout, stderr: a.Stderr,
		raw: a.Raw || p.terminal && !a.Framed,
	}
	if p.terminal { // what comes down a pipe may have any bytes
		st.keys.keys = a.DetachKeys
	}
	s.streams[st] = struct{}{}
	return st, nil
}

// join connects the stream with its running process.
func (st *stream) join(early []byte) {
	st.p.streams = append(st.p.streams, st)
	if st.stdin && len(early) > 0 {
		st.input(early)
	}
	st.watch()
}

func (st *stream) wants(o logs.Stream) bool {
	return o == logs.Stdout && st.stdout || o == logs.Stderr && st.stderr
}

// The daemon may hold a duplicate of the socket and change its O_NONBLOCK,
// which duplicates share. So each call says that it does not wait.
func (st *stream) send(data []byte) (int, error) {
	return unix.SendmsgN(st.fd, data, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

func (st *stream) receive() (int, error) {
	n, _, err := unix.Recvfrom(st.fd, st.s.io, unix.MSG_DONTWAIT)
	return n, err
}

func (st *stream) ready(events uint32) {
	if events&unix.EPOLLOUT != 0 {
		st.flush()
	}
	if st.fd >= 0 && events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		switch {
		case st.lingering:
			st.discard()
		case st.stdin:
			st.read()
		case events&(unix.EPOLLHUP|unix.EPOLLERR) != 0:
			st.gone()
			return
		}
	}
	// The input was read to its end, yet the connection is over.
	if st.fd >= 0 && !st.stdin && events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		st.gone()
		return
	}
	st.watch()
}

// watch sets what the loop watches the stream for.
func (st *stream) watch() {
	if st.fd < 0 {
		return
	}
	var events uint32
	if len(st.queue) > 0 {
		events |= unix.EPOLLOUT
	}
	if st.lingering {
		events |= unix.EPOLLIN | unix.EPOLLRDHUP
	}
	if st.stdin && st.p != nil {
		if !st.p.in.room() { // EPOLLHUP cannot be masked: look again when there is room
			if events == 0 {
				st.s.poll.drop(st.fd)
				return
			}
		} else {
			events |= unix.EPOLLIN | unix.EPOLLRDHUP
		}
	}
	if err := st.s.poll.set(st.fd, st, events); err != nil {
		st.s.log.Error("a client is disconnected", "error", err)
		st.gone()
	}
}

// read passes the client's input on to the process.
func (st *stream) read() {
	for range maxReads {
		if st.fd < 0 || !st.stdin || !st.p.in.room() {
			return
		}
		n, err := st.receive()
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return
		case err != nil:
			st.gone()
			return
		case n == 0:
			st.p.in.write(st.keys.rest())
			st.inputEnd()
			return
		default:
			st.input(st.s.io[:n])
		}
	}
}

// input passes data on, unless it makes the client detach.
func (st *stream) input(data []byte) {
	pass, detached := st.keys.feed(data)
	st.p.in.write(pass)
	if detached {
		st.closeStdin()
		st.finish()
	}
}

// closeStdin closes the process's input when it was this client's to close,
// and reports whether it was.
func (st *stream) closeStdin() bool {
	p := st.p
	if !st.stdin || p.terminal || p.exec == "" && !p.stdio.StdinOnce {
		st.stdin = false
		return false
	}
	st.stdin = false
	p.in.close()
	return true
}

// inputEnd is called when the client has closed its side. Where that does not
// end the process's input it ends the stream, as in Docker.
func (st *stream) inputEnd() {
	if !st.closeStdin() {
		st.finish()
	}
}

// write sends output to the client, or queues what it does not take.
func (st *stream) write(data []byte) {
	for len(st.queue) == 0 && len(data) > 0 {
		n, err := st.send(data)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			st.enqueue(data)
			st.watch()
			return
		case err != nil:
			st.gone()
			return
		default:
			data = data[n:]
		}
	}
	st.enqueue(data)
}

// enqueue keeps what the client does not take yet. It ends the quiet: the limit
// of memory that holds then does not reckon with queues, and a collector that
// cannot get below it would take half a processor.
func (st *stream) enqueue(data []byte) {
	if len(data) > 0 {
		st.queue = append(st.queue, data...)
		st.s.trim()
	}
}

// flush sends what is queued.
func (st *stream) flush() {
	full := len(st.queue) > st.s.o.MaxQueue
	for len(st.queue) > 0 {
		n, err := st.send(st.queue)
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			break
		}
		if err != nil {
			st.gone()
			return
		}
		st.queue = st.queue[n:]
	}
	if len(st.queue) == 0 {
		st.queue = nil
	}
	switch {
	case st.p == nil && st.queue == nil:
		st.hangUp()
	case st.p != nil && full && len(st.queue) <= st.s.o.MaxQueue:
		st.p.watchOutput()
	}
}

// leave takes the stream off its process.
func (st *stream) leave() {
	p := st.p
	if p == nil {
		return
	}
	for i, other := range p.streams {
		if other == st {
			p.streams = append(p.streams[:i:i], p.streams[i+1:]...)
			break
		}
	}
	st.p, st.stdin = nil, false
	p.watchOutput()
}

// finish ends the stream after what is queued for the client.
func (st *stream) finish() {
	if st.fd < 0 || st.lingering {
		return
	}
	st.leave()
	if len(st.queue) == 0 {
		st.hangUp()
		return
	}
	st.watch()
}

// hangUp tells the client that there is no more, and waits for its end.
func (st *stream) hangUp() {
	if st.fd < 0 || st.lingering {
		return
	}
	st.lingering = true
	if unix.Shutdown(st.fd, unix.SHUT_WR) != nil { // ENOTCONN: it has left
		st.close()
		return
	}
	st.watch()
	st.s.poll.after(linger, st.close)
}

// discard reads what the client still sends, until its end.
func (st *stream) discard() {
	for range maxReads {
		n, err := st.receive()
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			return
		}
		if n <= 0 || err != nil {
			st.close()
			return
		}
	}
}

// gone is called when the client has left.
func (st *stream) gone() {
	if st.p != nil {
		st.closeStdin()
	}
	st.close()
}

// close closes our end of the stream. A duplicate of the daemon's does not
// keep the client waiting, because the connection is shut down.
func (st *stream) close() {
	if st.fd < 0 {
		return
	}
	st.s.poll.drop(st.fd)
	_ = unix.Shutdown(st.fd, unix.SHUT_RDWR) // ENOTCONN: the client was first
	unix.Close(st.fd)
	st.fd, st.queue = -1, nil
	delete(st.s.streams, st)
	st.leave()
	st.s.checkIdle()
}
