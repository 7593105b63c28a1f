package netns

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"lade/internal/linux/sys"
)

// Sysctl writes a parameter of the calling thread's namespace; name is its path
// below /proc/sys.
func Sysctl(name, value string) error {
	path := "/proc/sys/" + name
	fd, err := parameters.open(name)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return &os.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

// parameters is the process's own proc: a mount, which belongs to all of it.
var parameters = proc{fd: -1}

// proc is an instance of proc(5) that is mounted nowhere, and replaced after some
// use. In /proc the kernel remembers below net/ what each namespace has looked up,
// all of it under the same names, and goes through that for every look-up: with
// 800 namespaces one takes half a millisecond.
//
// Sources: proc_sys_compare in the kernel's fs/proc/proc_sysctl.c; each mount of
// proc is an instance of its own from Linux 5.8 on.
type proc struct {
	mu   sync.Mutex
	fd   int // -1: it may not be mounted, as in a user namespace, and /proc is used
	left int // uses until it is replaced
}

// procUses is how often an instance is used; with four parameters for each
// namespace that is for 64 of them.
const procUses = 256

// open opens a parameter for writing.
func (p *proc) open(name string) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 {
		sys.CloseAll(p.fd)
		p.fd, p.left = mountProc(), procUses
	}
	p.left--
	if p.fd < 0 {
		return unix.Open("/proc/sys/"+name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	}
	return unix.Openat(p.fd, "sys/"+name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
}

// mountProc mounts proc, nowhere, and returns its root, or -1.
//
// Source: fsopen(2), fsmount(2).
func mountProc() int {
	fs, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return -1
	}
	return fd
}
