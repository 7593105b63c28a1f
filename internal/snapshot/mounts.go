package snapshot

import (
	"errors"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"lade/internal/linux/sys"
	"lade/internal/trace"
)

// Mounts is what drivers share whose snapshots must be mounted before anybody
// sees their files: at a directory beside the record, in the mount namespace of
// the engine. A snapshot is mounted when it is first asked for and stays so
// until it is committed, removed or the driver is closed; what a crash leaves
// mounted is found again. A running container has a mount of its own and does
// not need this one.
//
// The zero value is ready for use, by many goroutines: each directory is mounted
// and unmounted by one at a time.
type Mounts struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // directories at work, closed at the end; guarded by mu
}

// begin waits until nobody is at work on a directory, and is; end tells the
// next.
func (m *Mounts) begin(at string) (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.busy[at] != nil {
		other := m.busy[at]
		m.mu.Unlock()
		<-other
		m.mu.Lock()
	}
	if m.busy == nil {
		m.busy = map[string]chan struct{}{}
	}
	mine := make(chan struct{})
	m.busy[at] = mine
	return func() {
		m.mu.Lock()
		delete(m.busy, at)
		m.mu.Unlock()
		close(mine)
	}
}

// Ensure calls mount unless something is mounted on the directory at.
func (m *Mounts) Ensure(at string, mount func() error) error {
	defer m.begin(at)()
	is, err := mountRoot(at)
	if err != nil || is {
		return err
	}
	return mount()
}

// mountRoot reports whether something is mounted on a directory
// (STATX_ATTR_MOUNT_ROOT, Linux 5.8).
func mountRoot(at string) (bool, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, at, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &st); err != nil {
		return false, sys.Error("statx", at, err)
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// Drop unmounts what is mounted on at, if anything is. Who has a file of it
// open keeps that file system alive.
func (m *Mounts) Drop(at string) error { return m.unmount(at, unix.MNT_DETACH) }

// Release is Drop, but fails with EBUSY if a file is open.
func (m *Mounts) Release(at string) error { return m.unmount(at, 0) }

func (m *Mounts) unmount(at string, flags int) error {
	defer m.begin(at)()
	is, err := mountRoot(at)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || err == nil && !is {
		return nil
	}
	if err != nil {
		return err
	}
	sp := trace.Begin(trace.Mount, "umount", at)
	return sp.End(sys.Error("umount2", at, unix.Unmount(at, flags|unix.UMOUNT_NOFOLLOW)))
}

// DropAll drops what is mounted on the directory name of any snapshot below
// the driver's root.
func (m *Mounts) DropAll(root, name string) error {
	all, err := filepath.Glob(filepath.Join(root, "s", "*", "*", name))
	for _, at := range all {
		err = errors.Join(err, m.Drop(at))
	}
	return err
}
