package pidfd

import (
	"context"

	"golang.org/x/sys/unix"

	"lade/internal/linux/sys"
)

// Ended blocks until the process has ended, which need not be a child of the
// caller, or ctx ends: then it returns the context's cause. It reaps nothing.
func Ended(ctx context.Context, fd int) error {
	wake := -1
	if ctx.Done() != nil {
		var err error
		if wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
			return sys.Error("eventfd", "", err)
		}
		told := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			defer close(told)
			_, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // an empty eventfd takes it
		})
		defer func() {
			if !stop() {
				<-told
			}
			sys.CloseAll(wake)
		}()
	}
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
	err := sys.Retry(func() error { _, err := unix.Poll(p, -1); return err })
	if err != nil {
		return sys.Error("poll", "pidfd", err)
	}
	if p[0].Revents != 0 {
		return nil
	}
	return context.Cause(ctx)
}
