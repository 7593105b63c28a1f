package server

import (
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/program"
)

// watcher is called by the loop when its descriptor is ready. It must not
// block.
type watcher interface{ ready(events uint32) }

// watch is what the loop knows of a descriptor.
type watch struct {
	w      watcher
	events uint32
	gen    int32 // tells a closed and reused descriptor from its former self
	panics uint8
}

// poller is the loop's epoll(7) instance, timers and mailbox. Only post may be
// called from other goroutines.
type poller struct {
	epoll, wake int
	watches     map[int32]watch
	gen         int32
	timers      []timer
	next        time.Time // the first of timers; zero: none
	mail        chan func()
	events      []unix.EpollEvent // of one wait; in the heap, where it does not move
	code        []mapping         // to be given back in waits that become long; nil: none
	calls       []program.Call    // of such a wait
}

// maxEvents is how many events one wait takes.
const maxEvents = 64

type timer struct {
	at   time.Time
	call func()
}

func newPoller() (*poller, error) {
	p := &poller{epoll: -1, wake: -1, watches: map[int32]watch{}, mail: make(chan func(), 64), events: make([]unix.EpollEvent, maxEvents)}
	var err error
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if p.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		p.close()
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err := p.set(p.wake, mailbox{p}, unix.EPOLLIN); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *poller) close() {
	if p.wake >= 0 {
		unix.Close(p.wake)
	}
	unix.Close(p.epoll)
}

// set watches fd for events (of epoll_ctl(2)), or changes what it is watched
// for. EPOLLERR and EPOLLHUP are always reported.
func (p *poller) set(fd int, w watcher, events uint32) error {
	old, there := p.watches[int32(fd)]
	if there && old.w == w && old.events == events {
		return nil
	}
	op := unix.EPOLL_CTL_MOD
	if !there {
		op = unix.EPOLL_CTL_ADD
		p.gen++
		old.gen = p.gen
	}
	ev := unix.EpollEvent{Events: events, Fd: int32(fd), Pad: old.gen}
	if err := unix.EpollCtl(p.epoll, op, fd, &ev); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	p.watches[int32(fd)] = watch{w: w, events: events, gen: old.gen, panics: old.panics}
	return nil
}

// drop stops watching fd. It must be called before fd is closed: another
// process may hold a duplicate, and then closing does not remove it.
func (p *poller) drop(fd int) {
	if _, there := p.watches[int32(fd)]; there {
		delete(p.watches, int32(fd))
		_ = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_DEL, fd, nil) // it is there and open
	}
}

// after calls f from the loop once d has passed.
func (p *poller) after(d time.Duration, f func()) {
	at := time.Now().Add(d)
	p.timers = append(p.timers, timer{at, f})
	if p.next.IsZero() || at.Before(p.next) {
		p.next = at
	}
}

// soon reports whether a timer is due in less than d.
func (p *poller) soon(d time.Duration) bool {
	return !p.next.IsZero() && time.Until(p.next) < d
}

// post calls f from the loop. It may be called from any goroutine but the
// loop's own, and waits when the loop is far behind.
func (p *poller) post(f func()) {
	p.mail <- f
	_, _ = unix.Write(p.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // EAGAIN: it is awake
}

// mailbox runs what was posted.
type mailbox struct{ *poller }

func (m mailbox) ready(uint32) {
	var count [8]byte
	_, _ = unix.Read(m.wake, count[:])
	for {
		select {
		case f := <-m.mail:
			m.guard(f)
		default:
			return
		}
	}
}

// guard calls f and survives its panic, which it returns: one bad request must
// not take the parent of all containers away.
func (p *poller) guard(f func()) (panicked any) {
	defer func() {
		if panicked = recover(); panicked != nil {
			os.Stderr.WriteString("panic in the supervisor's loop\n" + string(debug.Stack()))
		}
	}()
	f()
	return nil
}

// once waits for events, at most until the next timer, and handles them. A
// handler that panics three times for the same descriptor loses it.
func (p *poller) once() error {
	n, err := p.wait(p.timeout())
	if err != nil && err != unix.EINTR {
		return os.NewSyscallError("epoll_wait", err)
	}
	for _, ev := range p.events[:max(n, 0)] {
		w, there := p.watches[ev.Fd]
		if !there || w.gen != ev.Pad {
			continue
		}
		if p.guard(func() { w.w.ready(ev.Events) }) != nil {
			if now, there := p.watches[ev.Fd]; there && now.gen == w.gen {
				now.panics++
				p.watches[ev.Fd] = now
				if now.panics >= 3 {
					p.drop(int(ev.Fd))
				}
			}
		}
	}
	p.expire()
	return nil
}

// timeout returns how many milliseconds epoll_wait may wait.
func (p *poller) timeout() int {
	if p.next.IsZero() {
		return -1
	}
	return int(max(0, (time.Until(p.next)+time.Millisecond-1)/time.Millisecond))
}

// expire runs the timers that are due.
func (p *poller) expire() {
	now := time.Now()
	if p.next.IsZero() || now.Before(p.next) {
		return
	}
	var due []timer
	all := p.timers
	p.timers, p.next = nil, time.Time{}
	for _, t := range all {
		switch {
		case !t.at.After(now):
			due = append(due, t)
			continue
		case p.next.IsZero(), t.at.Before(p.next):
			p.next = t.at
		}
		p.timers = append(p.timers, t)
	}
	for _, t := range due {
		p.guard(t.call)
	}
}
