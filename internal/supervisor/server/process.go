package server

import (
	"encoding/binary"
	"iter"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/linux/cgroup"
	"lade/internal/logs"
	"lade/internal/supervisor/wire"
)

// container is what the server knows of a container, from Start until its
// processes have ended and its control group is removed.
type container struct {
	s     *Server
	id    string
	init  *process // nil while it is being started
	execs map[string]*process
	group *cgroup.Group // nil: the launcher has none
	oomfd int           // of OOMNotify, or -1
	kills uint64        // for memory, as far as they were told
	root  int           // of runtime.Process; 0: none
	busy  int           // goroutines that use group or init's pidfd
	next  func()        // a start of the same container that waits for release

	foreign   Foreign // the container as another runtime has it; nil: it is ours alone
	launching int     // execs that are being started

	resolver  *resolver // its name server, or nil
	listening bool      // the sockets of one are being made
	resolved  []func()  // what waits for that

	frozen, oom bool
	sharedPids  bool // it has no process namespace of its own
	traced      bool // a process of it may have CAP_SYS_PTRACE
}

// processes yields the container's running processes.
func (c *container) processes() iter.Seq[*process] {
	return func(yield func(*process) bool) {
		if c.init != nil && !c.init.ended && !yield(c.init) {
			return
		}
		for _, p := range c.execs {
			if p.pid != 0 && !p.ended && !yield(p) {
				return
			}
		}
	}
}

// process is a container's first process or an exec.
type process struct {
	c         *container
	exec      string // "" for the first
	pid       int    // 0 while it is being started
	pidfd     int
	startedAt time.Time
	adopted   bool // not our child
	once      bool // of an exec: its end is not kept
	keep      int  // of once: how many bytes of output its end tells
	kept      []byte
	more      bool // there was more
	asked     bool // somebody is asked how it ended, or for the rest of its output
	ended     bool
	terminal  bool
	stdio     wire.Stdio
	out, err  source
	in        sink
	streams   []*stream
	log       *logs.Writer // nil: not logged
	outlet    *outlet      // where the log goes beside; nil: nowhere
	tty       int          // a slave side, kept so that the master never hangs up, or -1
}

func newProcess(c *container, exec string, stdio wire.Stdio, terminal bool) *process {
	p := &process{c: c, exec: exec, pidfd: -1, tty: -1, stdio: stdio, terminal: terminal}
	p.out = source{p: p, fd: -1, stream: logs.Stdout}
	p.err = source{p: p, fd: -1, stream: logs.Stderr}
	p.in = sink{p: p, fd: -1}
	return p
}

func (p *process) live() wire.Live {
	return wire.Live{
		ID: p.c.id, ExecID: p.exec, Pid: p.pid, StartedAt: p.startedAt,
		Frozen: p.c.frozen, OOM: p.c.oom && p.exec == "", Cgroup: p.c.s.groups[p.c.id],
	}
}

// keepsStdin reports whether stdin stays open whoever leaves, so that the
// daemon may hold a duplicate.
func (p *process) keepsStdin() bool { return p.exec == "" && !p.stdio.StdinOnce && !p.terminal }

// source is our end of a process's output: a pipe, or a terminal's master side.
type source struct {
	p      *process
	fd     int // -1: none, or at its end
	stream logs.Stream
	full   int // reads that found the pipe full, in a row; -1: it was made larger
}

// A process that fills its pipe again and again gets a larger one: then it
// writes on while we pass on what it wrote. Others keep the kernel's 64 kB.
//
// Source: "Pipe capacity" in pipe(7).
const (
	fullReads = 16
	largePipe = 1 << 20
	largeRead = 256 << 10
)

// maxReads is how often a source is read before others have their turn.
const maxReads = 4

func (o *source) ready(events uint32) {
	if o.p.terminal && events&unix.EPOLLOUT != 0 {
		o.p.in.flush()
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
		return
	}
	for range maxReads {
		if o.fd < 0 || o.blocked() || o.read() == 0 {
			break
		}
	}
	o.watch()
}

// read reads and passes on what there is, and returns how much that was. At
// the end of the output it closes the source.
func (o *source) read() int {
	for {
		buf := o.buffer()
		n, err := unix.Read(o.fd, buf[headerLen:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return 0
		case err == unix.EIO && o.p.terminal && !o.p.ended && o.p.tty < 0:
			// Every slave side was closed, but a process may open the terminal again
			// (systemd does): we keep one open from now on.
			if o.p.tty, err = openPeer(o.fd); err == nil {
				continue
			}
			o.close()
			return 0
		case err != nil || n == 0:
			o.close()
			return 0
		}
		o.p.output(o.stream, buf[:headerLen+n])
		o.grow(n)
		return n
	}
}

// buffer is where a read goes, after room for a header. What fills its pipe is
// read in larger pieces, each of which is one write to the log.
func (o *source) buffer() []byte {
	s := o.p.c.s
	if o.full >= 0 {
		return s.io
	}
	if s.large == nil {
		s.large = newBuffer(largeRead)
		s.trim() // gives it back
	}
	return s.large
}

// newBuffer returns room for a header and n bytes, which begin at a page. The
// kernel copies a pipe page by page, by REP MOVSB, and AMD's processors copy
// five times slower to a place that is 1 to 63 bytes further in its page than the
// source is in its own.
//
// Source: glibc's bug 30994, "REP MOVSB performance suffers from page aliasing on
// Zen 4".
func newBuffer(n int) []byte {
	const page = 4 << 10
	b := make([]byte, page+n) // Go puts what is larger than 32 kB at a page
	return b[page-headerLen:]
}

// grow makes the pipe larger if it keeps being full.
func (o *source) grow(n int) {
	switch {
	case o.full < 0:
		if n >= readLen {
			o.p.c.s.activity++ // the buffers are needed
		}
	case o.p.terminal:
	case n < readLen:
		o.full = 0
	default:
		if o.full++; o.full == fullReads {
			_, _ = unix.FcntlInt(uintptr(o.fd), unix.F_SETPIPE_SZ, largePipe) // EPERM, EBUSY: it stays as it is
			o.full = -1
		}
	}
}

// blocked reports whether a client that takes this output, or the log's target,
// is too far behind.
func (o *source) blocked() bool {
	if o.p.outlet != nil && o.p.outlet.blocked() {
		return true
	}
	for _, st := range o.p.streams {
		if st.wants(o.stream) && len(st.queue) > o.p.c.s.o.MaxQueue {
			return true
		}
	}
	return false
}

// watch sets what the loop watches the source for.
func (o *source) watch() {
	if o.fd < 0 {
		return
	}
	var events uint32
	if !o.blocked() {
		events |= unix.EPOLLIN
	}
	if o.p.terminal && len(o.p.in.queue) > 0 {
		events |= unix.EPOLLOUT
	}
	if events == 0 { // EPOLLHUP cannot be masked and would come again and again
		o.p.c.s.poll.drop(o.fd)
		return
	}
	if err := o.p.c.s.poll.set(o.fd, o, events); err != nil {
		o.p.c.s.log.Error("output is lost", "container", o.p.c.id, "error", err)
		o.close()
	}
}

// close logs the last line and closes our end. A terminal's master side is
// also the input; it is closed at the end of the process.
func (o *source) close() {
	if o.fd < 0 {
		return
	}
	s := o.p.c.s
	if o.p.log != nil {
		if err := o.p.log.End(&s.lines, time.Now(), o.stream); err != nil {
			s.warn("log", "container", o.p.c.id, "error", err)
		}
		o.p.flushLog()
	}
	s.poll.drop(o.fd)
	unix.Close(o.fd)
	if o.p.terminal {
		o.p.in.fd, o.p.in.queue = -1, nil
	}
	o.fd = -1
}

// output passes on to the log and to the clients what follows the room for a
// header in data.
func (p *process) output(stream logs.Stream, data []byte) {
	s := p.c.s
	if p.log != nil {
		if err := p.log.Write(&s.lines, time.Now(), stream, data[headerLen:]); err != nil {
			s.warn("log", "container", p.c.id, "error", err)
		}
		p.flushLog()
	}
	if p.keep > 0 {
		n := min(len(data)-headerLen, p.keep-len(p.kept))
		p.kept = append(p.kept, data[headerLen:headerLen+n]...)
		p.more = p.more || headerLen+n < len(data)
	}
	if len(p.streams) == 0 {
		return
	}
	copy(data, []byte{byte(stream), 0, 0, 0})
	binary.BigEndian.PutUint32(data[4:], uint32(len(data)-headerLen))
	for i := len(p.streams) - 1; i >= 0; i-- { // one that fails removes itself
		st := p.streams[i]
		switch {
		case !st.wants(stream):
		case st.raw:
			st.write(data[headerLen:])
		default:
			st.write(data)
		}
	}
}

// watchOutput is called when a client, or the log's target, took output or left.
func (p *process) watchOutput() {
	p.out.watch()
	p.err.watch()
}

// sink is our end of a process's input: a pipe, or a terminal's master side.
type sink struct {
	p     *process
	fd    int    // -1: none, or closed; what is written is discarded
	queue []byte // not taken by the process yet
	last  bool   // to be closed after queue
}

func (i *sink) ready(uint32) { i.flush() }

// room reports whether more may be read for the process.
func (i *sink) room() bool { return len(i.queue) == 0 }

// write passes data on, now or when the process reads.
func (i *sink) write(data []byte) {
	if i.fd < 0 || i.last || len(data) == 0 {
		return
	}
	i.queue = append(i.queue, data...)
	i.flush()
}

// flush writes what the process takes.
func (i *sink) flush() {
	for i.fd >= 0 && len(i.queue) > 0 {
		n, err := unix.Write(i.fd, i.queue)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			i.watch()
			return
		case err != nil: // EPIPE: nobody reads
			i.queue, i.last = nil, true
		default:
			i.queue = i.queue[n:]
		}
	}
	i.queue = nil
	if i.last {
		i.shut()
	}
	i.watch()
	for _, st := range i.p.streams {
		if st.stdin {
			st.watch()
		}
	}
}

// watch sets what the loop watches the input for.
func (i *sink) watch() {
	s := i.p.c.s
	switch {
	case i.p.terminal:
		i.p.out.watch()
	case i.fd < 0:
	case len(i.queue) == 0:
		s.poll.drop(i.fd)
	default:
		if err := s.poll.set(i.fd, i, unix.EPOLLOUT); err != nil {
			s.log.Error("input is lost", "container", i.p.c.id, "error", err)
			i.shut()
		}
	}
}

// close closes the input after what is queued, so that the process reads its
// end. A terminal has no such end.
func (i *sink) close() {
	if i.p.terminal || i.fd < 0 {
		return
	}
	i.last = true
	if len(i.queue) == 0 {
		i.shut()
	}
}

// shut closes our end now.
func (i *sink) shut() {
	if i.fd < 0 {
		return
	}
	if !i.p.terminal { // there the source owns it
		i.p.c.s.poll.drop(i.fd)
		unix.Close(i.fd)
	}
	i.fd, i.queue = -1, nil
}
