package cgroup

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	thawTime   = 5 * time.Second        // to undo a freeze that was given up
	freezeTime = 200 * time.Millisecond // to stop forks before killing one by one
	killAgain  = 100 * time.Millisecond // for what has joined a group after it was killed
	lookAgain  = 1000                   // ms between looks at cgroup.events without an event

	firstPause = 500 * time.Microsecond
	longPause  = 50 * time.Millisecond
)

// retry calls f until it says that it is done or fails, with pauses that grow,
// or until ctx ends. It is for what version 1 gives no event for.
func retry(ctx context.Context, f func() (done bool, err error)) error {
	for d := firstPause; ; d = min(2*d, longPause) {
		done, err := f()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
		}
	}
}

// waitEvents waits until a line of cgroup.events has the value, or ctx ends. It
// holds a thread in poll(2) meanwhile. Errors: NotFound if the group is gone.
//
// Source: Documentation/admin-guide/cgroup-v2.rst, "cgroup.events": a change
// generates a file modified event, which poll tells as POLLPRI.
func (g *Group) waitEvents(ctx context.Context, key, value string) error {
	m := g.h.unified
	fd, err := m.open(g.path, "cgroup.events", unix.O_RDONLY)
	if err != nil {
		return g.missing(m, err)
	}
	defer unix.Close(fd)
	cancel := -1
	var buf [256]byte
	for {
		n, err := unix.Pread(fd, buf[:], 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return g.missing(m, &os.PathError{Op: "read", Path: m.name(g.path, "cgroup.events"), Err: err})
		}
		if v, _ := field(string(buf[:n]), key); v == value {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if cancel < 0 {
			fd, release, err := cancelFD(ctx)
			if err != nil {
				return err
			}
			defer release()
			cancel = fd
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}, {Fd: int32(cancel), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, lookAgain); err != nil && err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
	}
}

// cancelFD returns a descriptor that becomes readable when ctx ends. release
// closes it.
func cancelFD(ctx context.Context) (fd int, release func(), err error) {
	if fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return -1, nil, os.NewSyscallError("eventfd", err)
	}
	told := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(told)
		_, _ = unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 1})
	})
	return fd, func() {
		if !stop() {
			<-told
		}
		unix.Close(fd)
	}, nil
}
