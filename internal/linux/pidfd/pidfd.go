package pidfd

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"lade/internal/linux/sys"
)

// Signal sends sig to the process. Errors: ESRCH when it is gone.
func Signal(fd int, sig unix.Signal) error {
	return sys.Error("pidfd_send_signal", unix.SignalName(sig), unix.PidfdSendSignal(fd, sig, nil, 0))
}

// siginfo is the part of siginfo_t that waitid(2) fills, on 64-bit machines.
type siginfo struct {
	signo, errno, code, _ int32
	pid                   int32
	uid                   uint32
	status                int32
	_                     [100]byte
}

// Wait blocks until the child ends, reaps it and returns its exit status, or
// 128+n with the signal n that ended it. Errors: ECHILD when it is no child of
// the caller or was reaped before.
func Wait(fd int) (code int, sig unix.Signal, err error) {
	var info siginfo
	err = sys.Retry(func() error {
		return unix.Waitid(unix.P_PIDFD, fd, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED, nil)
	})
	if err != nil {
		return -1, 0, sys.Error("waitid", "pidfd", err)
	}
	const exited = 1 // CLD_EXITED
	if info.code == exited {
		return int(info.status), 0, nil
	}
	return 128 + int(info.status), unix.Signal(info.status), nil
}

// Alive reports whether the process has not ended yet.
func Alive(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 0
}
