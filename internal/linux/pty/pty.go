package pty

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/linux/sys"
)

// Options of devpts that a new instance gets when the spec says nothing else.
const (
	DefaultMode = "0620"
	PtmxMode    = "0666"
)

// Mount makes a new instance of devpts and returns its detached mount. Each
// option is "key" or "key=value"; attrs are MOUNT_ATTR_*. The caller closes the
// descriptor.
func Mount(options []string, attrs int) (int, error) {
	fs, err := unix.Fsopen("devpts", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, sys.Error("fsopen", "devpts", err)
	}
	defer sys.CloseAll(fs)
	for _, o := range options {
		if k, v, ok := strings.Cut(o, "="); ok {
			err = unix.FsconfigSetString(fs, k, v)
		} else {
			err = unix.FsconfigSetFlag(fs, k)
		}
		if err != nil {
			return -1, sys.Error("fsconfig devpts", o, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, sys.Error("fsconfig", "devpts", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attrs)
	return fd, sys.Error("fsmount", "devpts", err)
}

// Open opens a new terminal by the file ptmx in the directory dir, which must be
// the root of a devpts instance. The caller closes both sides. Errors: ENOTTY
// if dir is something else.
func Open(dir int) (master, slave int, err error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(dir, &fs); err != nil {
		return -1, -1, sys.Error("fstatfs", "devpts", err)
	}
	if fs.Type != unix.DEVPTS_SUPER_MAGIC {
		return -1, -1, sys.Error("open", "/dev/pts", unix.ENOTTY)
	}
	master, err = unix.Openat(dir, "ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return -1, -1, sys.Error("open", "ptmx", err)
	}
	// Something may be mounted over the file.
	var st unix.Stat_t
	if err = unix.Fstat(master, &st); err == nil && (st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(5, 2)) {
		err = unix.ENOTTY
	}
	if err == nil {
		err = unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = peer(master)
	}
	if err != nil {
		sys.CloseAll(master)
		return -1, -1, sys.Error("open", "ptmx", err)
	}
	return master, slave, nil
}

// KeepLines makes a terminal put out what is written to it as it is, without a
// carriage return before each new line, whatever it is set to afterwards. The lock
// needs CAP_SYS_ADMIN; without that it is only set so.
//
// Sources: termios(3); TIOCSLCKTRMIOS(2const).
func KeepLines(fd int) error {
	const output = unix.OPOST | unix.ONLCR
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return sys.Error("ioctl", "TCGETS", err)
	}
	t.Oflag &^= output
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return sys.Error("ioctl", "TCSETS", err)
	}
	err = unix.IoctlSetTermios(fd, unix.TIOCSLCKTRMIOS, &unix.Termios{Oflag: output})
	if errors.Is(err, unix.EPERM) {
		return nil
	}
	return sys.Error("ioctl", "TIOCSLCKTRMIOS", err)
}

// Resize sets the size in characters.
func Resize(fd int, rows, cols uint16) error {
	return sys.Error("ioctl", "TIOCSWINSZ", unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}))
}

// peer opens the other side, whatever its path is.
func peer(master int) (int, error) {
	const flags = unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, flags)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}
