package program

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"lade/internal/linux/pidfd"
	"lade/internal/linux/sys"
)

// Fork appends an op after which another process goes on with the program: a
// child of the caller, as the first one is, in the new namespaces that flags
// (CLONE_NEW*) ask for; the first process ends. A program has one Fork at most.
//
// What comes before it runs with the caller's credentials in the caller's pid
// namespace; what it leaves open or has entered the second process inherits. So
// a program can prepare what the initial user namespace alone may do, join a
// user namespace, and have a pid namespace, which only begins with a clone, that
// belongs to it. cgroup is a directory of cgroup v2 to be born in, or -1.
//
// Source: clone(2), CLONE_PARENT; user_namespaces(7), "Interaction of user
// namespaces and other types of namespaces".
func (p *Program) Fork(flags uint64, cgroup int) Op {
	a := p.a
	a.fork = cloneArgs{
		flags:     flags | unix.CLONE_PARENT | unix.CLONE_PARENT_SETTID,
		parentTID: uint64(uintptr(unsafe.Pointer(&a.last))),
	}
	if cgroup >= 0 {
		a.fork.flags |= unix.CLONE_INTO_CGROUP
		a.fork.cgroup = uint64(cgroup)
	}
	// No stack of its own: the first process never runs again when it is used.
	o := p.Sys("clone3", "", unix.SYS_CLONE3, uint64(uintptr(unsafe.Pointer(&a.fork))), uint64(unsafe.Sizeof(a.fork)))
	p.forkOp = o.i
	return o
}

// handOver makes the second process the result of a run. The first one is ending,
// which takes longer than the caller should wait: somebody else reaps it.
func (p *Program) handOver(first Result) (Result, error) {
	if p.a.last == 0 { // there is no second one
		if err := p.outcome(); err != nil {
			return first, err
		}
		return first, ErrKilled
	}
	r := first
	r.Pid = int(p.a.last)
	var err error
	r.Pidfd, err = p.second()
	// It comes back when the second has executed another program or ended, unless
	// it was killed: then the second may still be using the memory.
	if err == nil && p.a.block.through == 0 {
		err = ErrKilled
	}
	go func() {
		// Whoever reaps every child may have been here before.
		_, _, _ = pidfd.Wait(first.Pidfd)
		sys.CloseAll(first.Pidfd)
	}()
	if err == nil {
		return r, p.outcome()
	}
	if r.Pidfd >= 0 {
		_ = pidfd.Signal(r.Pidfd, unix.SIGKILL) // it may have ended
		ended := []unix.PollFd{{Fd: int32(r.Pidfd), Events: unix.POLLIN}}
		_ = sys.Retry(func() error { _, err := unix.Poll(ended, -1); return err })
	}
	return r, err
}

// Second returns the process that a spawned program's Fork has made; the first
// one must have ended or be about to. It reaps the first.
func (p *Program) Second(first Result) (Result, error) {
	if _, _, err := pidfd.Wait(first.Pidfd); err != nil {
		return first, err
	}
	sys.CloseAll(first.Pidfd)
	if p.a.last == 0 {
		first.Pid, first.Pidfd = 0, -1
		if _, err := p.Progress(); err != nil {
			return first, err
		}
		return first, ErrKilled
	}
	second, err := p.second()
	first.Pid, first.Pidfd = int(p.a.last), second
	return first, err
}

// second opens the second process, a child that nobody else reaps.
func (p *Program) second() (int, error) {
	fd, err := unix.PidfdOpen(int(p.a.last), 0)
	if err != nil {
		return -1, sys.Error("pidfd_open", "", err)
	}
	return fd, nil
}
