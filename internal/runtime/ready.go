package runtime

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/linux/sys"
)

const (
	// readyFD is the descriptor on which lade-init says that it passes signals on.
	readyFD = 3
	// readyFor bounds the wait for that: then the container counts as started as
	// it would without.
	readyFor = 10 * time.Second
)

// readiness is a pipe between a start and the lade-init that it has executed.
// Until that has handlers for signals, one that stops the container would end
// lade-init, or the kernel would drop it, as it does what a process 1 has no
// handler for: so only then the container counts as started. It costs a start
// with --init the time in which lade-init begins, and others nothing.
//
// Source: sig_ignored() in the kernel's kernel/signal.c; pid_namespaces(7).
type readiness struct{ ours, theirs int }

func (b *builder) newReadiness() (*readiness, error) {
	var fd [2]int
	if err := unix.Pipe2(fd[:], unix.O_CLOEXEC); err != nil {
		return nil, sys.Error("pipe2", "", err)
	}
	return &readiness{ours: b.own(fd[0]), theirs: b.own(fd[1])}, nil
}

// wait returns when lade-init has said that it is ready, or has ended, or after
// readyFor, or when ctx ends. A nil readiness is there already.
func (r *readiness) wait(ctx context.Context, pidfd int) {
	if r == nil {
		return
	}
	p := []unix.PollFd{{Fd: int32(r.ours), Events: unix.POLLIN}, {Fd: int32(pidfd), Events: unix.POLLIN}}
	for end := time.Now().Add(readyFor); ctx.Err() == nil; {
		left := time.Until(end)
		if left <= 0 {
			return
		}
		n, err := unix.Poll(p, int(min(left, time.Second)/time.Millisecond)+1)
		if n > 0 || err != nil && err != unix.EINTR {
			return
		}
	}
}
