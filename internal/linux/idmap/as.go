package idmap

import (
	"errors"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"lade/internal/linux/sys"
)

// As calls f on a thread that makes files as the given user and group, but keeps
// the capabilities that it has. What is made belongs to who makes it, and an
// id-mapped mount has no id for the host's root: to make something there as
// such fails with EOVERFLOW. f must not leave its goroutine.
//
// Source: setfsuid(2); cap_task_fix_setuid in security/commoncap.c takes the
// capabilities on files away together with the user id 0.
func As(uid, gid uint32, f func() error) (err error) {
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var had [2]unix.CapUserData
	if err := unix.Capget(&header, &had[0]); err != nil {
		runtime.UnlockOSThread()
		return sys.Error("capget", "", err)
	}
	become := func(uid, gid int) error {
		// These two tell what was, not whether it went well.
		_, _ = unix.SetfsgidRetGid(gid)
		_, _ = unix.SetfsuidRetUid(uid)
		if now, _ := unix.SetfsuidRetUid(-1); now != uid {
			return sys.Error("setfsuid", strconv.Itoa(uid), unix.EPERM)
		}
		return sys.Error("capset", "", unix.Capset(&header, &had[0]))
	}
	defer func() {
		if back := become(unix.Geteuid(), unix.Getegid()); back != nil {
			err = errors.Join(err, back)
			return // the thread stays locked: it ends with its goroutine
		}
		runtime.UnlockOSThread()
	}()
	if err := become(int(uid), int(gid)); err != nil {
		return err
	}
	return f()
}
