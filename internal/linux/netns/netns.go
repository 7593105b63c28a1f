package netns

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

const self = "/proc/thread-self/ns/net"

// Thread is the calling goroutine's thread, kept for it: making namespaces one
// after the other needs no other thread.
type Thread struct {
	home *os.File
	lost bool
}

// Lock locks the calling goroutine to its thread until Unlock.
func Lock() (*Thread, error) {
	runtime.LockOSThread()
	home, err := os.Open(self)
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	return &Thread{home: home}, nil
}

// Unlock ends what Lock began. A thread that is lost stays locked and ends with
// the goroutine.
func (t *Thread) Unlock() {
	t.home.Close()
	if !t.lost {
		runtime.UnlockOSThread()
	}
}

// Lost reports whether the thread could not return to its own namespace: it is
// of no more use, and the goroutine must end.
func (t *Thread) Lost() bool { return t.lost }

// New creates a namespace, runs f inside of it and returns it. The caller must
// close it; on error there is none. f must not leave its goroutine.
func (t *Thread) New(f func(ns *os.File) error) (ns *os.File, err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, os.NewSyscallError("unshare(CLONE_NEWNET)", err)
	}
	defer t.back()
	if ns, err = os.Open(self); err != nil {
		return nil, err
	}
	if err = f(ns); err != nil {
		ns.Close()
		return nil, err
	}
	return ns, nil
}

// Do runs f inside of ns. f must not leave its goroutine.
func (t *Thread) Do(ns *os.File, f func() error) error {
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return os.NewSyscallError("setns(CLONE_NEWNET)", err)
	}
	defer t.back()
	return f()
}

// back returns the thread to its own namespace.
func (t *Thread) back() { t.lost = unix.Setns(int(t.home.Fd()), unix.CLONE_NEWNET) != nil }

// New is Thread.New in a goroutine of its own.
func New(f func(ns *os.File) error) (ns *os.File, err error) {
	err = onThread(func(t *Thread) (err error) {
		ns, err = t.New(f)
		return err
	})
	return ns, err
}

// Do is Thread.Do in a goroutine of its own.
func Do(ns *os.File, f func() error) error {
	return onThread(func(t *Thread) error { return t.Do(ns, f) })
}

func onThread(f func(*Thread) error) error {
	done := make(chan error)
	go func() {
		t, err := Lock()
		if err == nil {
			err = f(t)
			t.Unlock()
		}
		done <- err
	}()
	return <-done
}

// Duplicate returns another descriptor of a namespace. The caller must close it.
func Duplicate(ns *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(ns.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl(F_DUPFD_CLOEXEC)", err)
	}
	return os.NewFile(uintptr(fd), ns.Name()), nil
}
