package netns

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

const self = "/proc/thread-self/ns/net"

// New creates a namespace, runs f on a thread inside of it and returns it. The
// caller must close it; on error there is none. f must not leave its goroutine.
func New(f func(ns *os.File) error) (ns *os.File, err error) {
	err = onThread(func() error {
		return os.NewSyscallError("unshare(CLONE_NEWNET)", unix.Unshare(unix.CLONE_NEWNET))
	}, func() error {
		if ns, err = os.Open(self); err != nil {
			return err
		}
		return f(ns)
	})
	if err != nil && ns != nil {
		ns.Close()
		ns = nil
	}
	return ns, err
}

// Do runs f on a thread inside of ns. f must not leave its goroutine.
func Do(ns *os.File, f func() error) error {
	return onThread(func() error {
		return os.NewSyscallError("setns(CLONE_NEWNET)", unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET))
	}, f)
}

// onThread locks a goroutine to a thread, enters and runs f.
func onThread(enter, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open(self)
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer home.Close()
		if err := enter(); err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		err = f()
		// A thread that cannot return stays locked and ends with the goroutine.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}
