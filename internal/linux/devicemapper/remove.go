package devicemapper

import (
	"bytes"
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/linux/sys"
	"lade/internal/trace"
)

// Remove removes a device; one that is not there is nothing to remove. Errors:
// the chain holds EBUSY if it is open or mounted.
func (c *Control) Remove(name string) error {
	sp := trace.Begin(trace.Mount, "dm remove", name)
	return sp.End(c.remove(name, 0))
}

// RemoveWait removes a device as soon as nobody has it open any more, and
// returns then. When ctx ends first, the kernel still removes it later.
func (c *Control) RemoveWait(ctx context.Context, name string) error {
	err := c.Remove(name)
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	d, found, err := c.Find(name)
	if err != nil || !found {
		return err
	}
	events, err := uevents()
	if err != nil {
		return err
	}
	defer events.Close()
	sp := trace.Begin(trace.Mount, "dm remove", name+" deferred")
	if err := c.remove(name, deferredRemove); err != nil {
		return sp.End(err)
	}
	if _, found, err = c.Find(name); err != nil || !found {
		return sp.End(err)
	}
	return sp.End(sys.Error("DM_DEV_REMOVE", name, events.removed(ctx, d)))
}

// listener hears what happens to devices.
type listener struct{ *os.File }

// uevents begins to listen.
//
// Source: netlink(7), NETLINK_KOBJECT_UEVENT.
func uevents() (listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return listener{}, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return listener{}, errors.Join(os.NewSyscallError("bind", err), unix.Close(fd))
	}
	return listener{os.NewFile(uintptr(fd), "uevents")}, nil
}

// removed returns when the kernel says that a device is gone, or when ctx ends.
func (l listener) removed(ctx context.Context, d Device) error {
	stop := context.AfterFunc(ctx, func() { _ = l.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	suffix := []byte(d.Path()[len("/dev"):]) // "remove@/devices/virtual/block/dm-3"
	buf := make([]byte, 16<<10)
	for {
		n, err := l.Read(buf)
		if ctx.Err() != nil {
			return errors.Join(unix.EBUSY, context.Cause(ctx))
		}
		if err != nil {
			return err
		}
		what, _, _ := bytes.Cut(buf[:n], []byte{0})
		if bytes.HasPrefix(what, []byte("remove@")) && bytes.HasSuffix(what, suffix) {
			return nil
		}
	}
}
