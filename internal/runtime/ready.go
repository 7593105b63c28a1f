package runtime

import (
	"bytes"
	"context"
	"os"
	"strconv"
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

// executesIn bounds how long another runtime may take from its answer to the
// execution of lade-init.
const executesIn = time.Second

// AwaitInit returns when the lade-init at path, which another runtime executes as
// process pid, passes signals on, when it has ended, or after a while. A pipe as
// above cannot be handed to it, since not every runtime passes descriptors. But
// lade-init catches SIGTTOU from then on, and the Go runtime by itself does not.
// Nothing tells of that, so it is looked at every millisecond.
//
// Where the command is no process of the host's (gVisor, a virtual machine) nothing
// is to be seen, and the wait is short.
//
// Source: SigCgt in proc_pid_status(5); os/signal, "Default behavior of signals in
// Go programs".
func AwaitInit(ctx context.Context, path string, pid, pidfd int) {
	own, err := os.Stat(path)
	if err != nil {
		return // then nothing has executed it
	}
	proc := "/proc/" + strconv.Itoa(pid)
	p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	end := time.Now().Add(readyFor)
	for executed, soon := false, time.Now().Add(executesIn); ctx.Err() == nil; {
		now := time.Now()
		if its, err := os.Stat(proc + "/exe"); err == nil {
			executed = os.SameFile(own, its)
		}
		status, err := os.ReadFile(proc + "/status")
		switch {
		case err != nil, now.After(end), executed && catches(status, unix.SIGTTOU):
			return
		case !executed && (now.After(soon) || sandboxed(proc)):
			return
		}
		if n, err := unix.Poll(p, 1); n > 0 || err != nil && err != unix.EINTR {
			return
		}
	}
}

// sandboxed reports whether a process is gVisor's kernel rather than a command.
func sandboxed(proc string) bool {
	line, err := os.ReadFile(proc + "/cmdline")
	return err == nil && bytes.Contains(line, []byte("\x00boot\x00"))
}

// catches reports whether a process has a handler for a signal.
func catches(status []byte, sig unix.Signal) bool {
	_, mask, _ := bytes.Cut(status, []byte("\nSigCgt:\t"))
	mask, _, _ = bytes.Cut(mask, []byte("\n"))
	set, err := strconv.ParseUint(string(mask), 16, 64)
	return err == nil && set&(1<<(sig-1)) != 0
}
