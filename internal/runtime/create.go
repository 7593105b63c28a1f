package runtime

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/linux/sys"
	"lade/internal/program"
)

// parking holds the descriptors of a child that waits before its last ops.
type parking struct {
	fifo  int // what it reads from
	ready int // what it tells by that it waits
}

// Where a parked child has them.
const (
	parkFifo  = 3 // after those that are preserved
	parkReady = 4
)

// callLookup names the ops that look whether the command exists.
const callLookup = "lookup"

// Create does everything that Start does but executing the command: it leaves a
// process that waits until a byte can be read from fifo, which must be open for
// reading and writing, so that the wait survives the caller. What fails after
// that (the credentials, the filter, execve itself) ends the process with
// status 253.
//
// Source: OCI runtime-spec, runtime.md, "Lifecycle".
func (l *Launcher) Create(ctx context.Context, c *Container, fifo int) (_ *Process, err error) {
	began := time.Now()
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if err := check(c.Spec); err != nil {
		return nil, err
	}
	p, err := program.New(program.Parked)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	var ready [2]int
	if err := unix.Pipe2(ready[:], unix.O_CLOEXEC); err != nil {
		return nil, sys.Error("pipe2", "", err)
	}
	defer sys.CloseAll(ready[0])
	b := newBuilder(l, p)
	defer b.close()
	b.park = &parking{fifo, b.own(ready[1])}
	defer func() {
		if err != nil {
			sys.CloseAll(b.master)
			err = errors.Join(err, b.removeGroups())
		}
	}()
	o, err := b.container(ctx, c)
	if err != nil {
		return nil, err
	}
	b.listener.forward()
	r, err := l.submit(ctx, &job{p: p, o: o, spawn: true}, c.ID)
	if err != nil {
		return nil, b.explain(errors.Join(err, b.forwarded()))
	}
	if b.user != nil {
		if r, err = p.Second(r); err != nil {
			if r.Pid > 0 {
				l.discard(r)
			}
			return nil, b.explain(err)
		}
	}
	// Only the child holds the other end from now on: its end ends the reading.
	b.release(ready[1])
	out := &Process{Pid: r.Pid, Pidfd: r.Pidfd, Console: b.master, Cgroup: b.group, Prepare: r.Began.Sub(began)}
	if c.Prepared != nil {
		if err := b.prepared(ready[0], fifo, func() error { return c.Prepared(out) }); err != nil {
			l.discard(r)
			_ = b.forwarded() // it ends with the child, and this comes first
			return nil, err
		}
	}
	if err := b.waitReady(ready[0]); err != nil {
		l.discard(r)
		if failed := b.forwarded(); failed != nil {
			return nil, failed
		}
		return nil, err
	}
	if err := b.forwarded(); err != nil {
		l.discard(r)
		return nil, err
	}
	out.StartedAt, out.Program = time.Now(), time.Since(r.Began)
	return out, nil
}

// waitReady waits until the child parks. Errors: why it did not.
func (b *builder) waitReady(ready int) error {
	var buf [1]byte
	var n int
	err := sys.Retry(func() (err error) { n, err = unix.Read(ready, buf[:]); return err })
	if err == nil && n == 1 {
		return nil
	}
	if err == nil {
		_, err = b.p.Progress()
	}
	if err == nil {
		err = program.ErrKilled
	}
	return b.explain(err)
}

// prepared runs f while the child waits for the first time, and lets it go on.
func (b *builder) prepared(ready, fifo int, f func() error) error {
	if err := b.waitReady(ready); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	_, err := unix.Write(fifo, []byte{0})
	return sys.Error("write", "exec fifo", err)
}

// parkBefore says that all is mounted, and waits.
func (b *builder) parkBefore() {
	b.internal()
	b.p.Sys("write", "ready", unix.SYS_WRITE, uint64(b.park.ready), b.addr.zero, 1)
	b.p.Sys("read", "exec fifo", unix.SYS_READ, uint64(b.park.fifo), program.Address(b.p.Space(8)), 1)
}

// release closes a descriptor before the start is over.
func (b *builder) release(fd int) {
	for i, f := range b.fds {
		if f == fd {
			b.fds[i] = -1
		}
	}
	sys.CloseAll(fd)
}

// high duplicates a descriptor to a number that nothing else takes.
func (b *builder) high(fd int) ref {
	return result(b.p.Sys("fcntl", "F_DUPFD_CLOEXEC", unix.SYS_FCNTL, uint64(fd), unix.F_DUPFD_CLOEXEC, uint64(64+b.preserve)))
}

// keepParking moves the descriptors of the parking to where they stay, and
// returns the first one that does not.
func (b *builder) keepParking() uint64 {
	// By a detour: the numbers may be each other's.
	fifo, ready := b.high(b.park.fifo), b.high(b.park.ready)
	b.sys("dup3", "exec fifo", unix.SYS_DUP3, fifo, b.parked(parkFifo), unix.O_CLOEXEC)
	b.sys("dup3", "ready", unix.SYS_DUP3, ready, b.parked(parkReady), unix.O_CLOEXEC)
	return b.parked(parkReady) + 1
}

// parked returns where a descriptor of the parking is.
func (b *builder) parked(fd int) uint64 { return uint64(fd + b.preserve) }

// parkHere makes sure that the command exists, says so, and waits.
func (b *builder) parkHere(files []string) {
	b.lookup(files)
	b.internal()
	b.p.Sys("write", "ready", unix.SYS_WRITE, b.parked(parkReady), b.addr.zero, 1)
	b.p.Sys("read", "exec fifo", unix.SYS_READ, b.parked(parkFifo), program.Address(b.p.Space(8)), 1)
}

// lookup fails if the command does not exist: for a child whose execve nobody
// waits for.
func (b *builder) lookup(files []string) {
	var found []program.Op
	for i, f := range files {
		o := b.p.Sys(callLookup, f, unix.SYS_FACCESSAT, atCWD, b.p.String(f), unix.X_OK)
		if i < len(files)-1 {
			o.AllowAll()
		}
		found = append(found, o)
	}
	for _, o := range found {
		o.ThenNext()
	}
}
