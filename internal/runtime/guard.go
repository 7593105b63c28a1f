package runtime

import (
	"context"
	"errors"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/linux/ns"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/sys"
	"lade/internal/program"
)

// guard is an exec into a container whose processes may trace others
// (CAP_SYS_PTRACE): they may look at and change the memory of every process
// that they see, dumpable or not, the one that enters included. What they see
// must therefore be theirs already:
//
//	launcher                first child                    second child
//	  copy of our memory ──►  not in their pid namespace:
//	                          forgets our memory, joins,
//	                          drops, filters
//	                          clone(CLONE_PARENT)     ──►  in their pid namespace
//	  collects its pidfd ◄──  waits, sends its pidfd,      executes the command
//	                          ends
//
// It costs a copy of our page tables and a second process, which only these
// containers pay, and those of a user without privileges: for them nothing but a
// child can be in another pid namespace (facts.outer).
//
// Sources: ptrace(2), "Ptrace access mode checking"; CVE-2016-9962.
type guard struct {
	ours, theirs int    // socket pair
	at           uint64 // where the first child has its end
	terminal     bool
}

// inOurUser reports whether a process is in our user namespace. In one of its
// own it has no power over what is not of it, which a process that enters is
// until it executes.
func inOurUser(pid int) bool {
	same, err := ns.Same(pid, unix.CLONE_NEWUSER)
	return same || err != nil
}

// guarded starts an exec in two steps.
func (l *Launcher) guarded(ctx context.Context, e *Exec, began time.Time) (_ *Process, err error) {
	p, err := program.New(program.Apart)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }() // never used again: the container may have seen it
	b := newBuilder(l, p)
	defer b.close()
	defer func() {
		if err != nil {
			sys.CloseAll(b.master)
		}
	}()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, sys.Error("socketpair", "", err)
	}
	b.guard = &guard{ours: b.own(pair[0]), theirs: b.own(pair[1]), terminal: e.Process.Terminal}
	b.time = l.otherClocks(e.Pid) // the child has memory of its own, so it may enter
	b.internal()
	if err := p.Forget(); err != nil {
		return nil, err
	}
	o, err := b.exec(e)
	if err != nil {
		return nil, err
	}
	o.PidNS = -1
	if b.listener != nil {
		b.listener.guarded = true
		b.listener.forward()
	}
	r, err := l.submit(ctx, &job{p: p, o: o, spawn: true}, strconv.Itoa(e.Pid))
	if err != nil {
		return nil, errors.Join(err, b.forwarded())
	}
	b.release(b.guard.theirs)
	_, _, waited := pidfd.Wait(r.Pidfd)
	sys.CloseAll(r.Pidfd)
	passed := b.forwarded()
	if waited != nil {
		return nil, waited
	}
	second, err := b.second(r, began)
	if err == nil && passed != nil {
		l.discard(program.Result{Pid: second.Pid, Pidfd: second.Pidfd})
		return nil, passed
	}
	return second, err
}

// second takes the second child over, or says why there is none.
func (b *builder) second(r program.Result, began time.Time) (*Process, error) {
	failed := b.p.Outcome()
	pid, fd, err := b.guard.receive()
	if err != nil {
		if failed == nil {
			failed = err
		}
		return nil, b.explain(failed)
	}
	if failed != nil {
		b.l.discard(program.Result{Pid: pid, Pidfd: fd})
		return nil, b.explain(failed)
	}
	return &Process{
		Pid: pid, Pidfd: fd, Console: b.master,
		StartedAt: time.Now(), Prepare: r.Began.Sub(began), Program: time.Since(r.Began),
	}, nil
}

// keepGuard moves the first child's end of the socket pair to where it stays.
func (b *builder) keepGuard(socket ref, at uint64) uint64 {
	b.sys("dup3", "guard", unix.SYS_DUP3, socket, at, unix.O_CLOEXEC)
	b.guard.at = at
	return at + 1
}

// split ends the first child's part and begins the second one's. Only the
// second child is no leader of a process group and can become that of a
// session: so each knows which it is.
//
// Sources: clone(2), CLONE_PARENT and CLONE_VFORK; setsid(2).
func (b *builder) split(files []string) {
	b.lookup(files)
	b.stage("unable to enter the container", "")
	body := b.p.Space(8) // its process number
	c := b.p.Sys("clone", "", unix.SYS_CLONE, unix.CLONE_PARENT|unix.CLONE_VFORK|uint64(unix.SIGCHLD), 0, 0, 0, 0)
	c.Store(body)
	leader := b.p.Sys("setsid", "", unix.SYS_SETSID).Allow(unix.EPERM)
	open := b.p.Sys("pidfd_open", "", unix.SYS_PIDFD_OPEN, 0, 0)
	c.Into(open, 0)
	b.send(open, body, b.guard.at)
	b.p.Sys("exit_group", "", unix.SYS_EXIT_GROUP, 0)
	leader.ThenNext()
	if b.listener != nil {
		b.introduce()
	}
	if b.guard.terminal {
		b.p.Sys("ioctl", "TIOCSCTTY", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
}

// receive returns what the first child sent: the second one's process number
// and pidfd.
func (g *guard) receive() (pid, fd int, err error) {
	body, control := make([]byte, 8), make([]byte, unix.CmsgSpace(4))
	var n, cn int
	err = sys.Retry(func() (err error) {
		n, cn, _, _, err = unix.Recvmsg(g.ours, body, control, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil {
		return 0, -1, sys.Error("recvmsg", "guard", err)
	}
	if n != len(body) {
		return 0, -1, program.ErrKilled
	}
	messages, err := unix.ParseSocketControlMessage(control[:cn])
	if err != nil || len(messages) != 1 {
		return 0, -1, unix.EBADMSG
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return 0, -1, unix.EBADMSG
	}
	return int(order.Uint64(body)), fds[0], nil
}
