package loop

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/sys"
	"lade/internal/trace"
)

// attempts is how often Attach looks for a free device: between its finding
// one and taking it somebody else may be faster.
const attempts = 64

// Attach makes a block device of a file and returns it, open for reading and
// writing. When the caller has closed it, and nothing else has it open or
// mounted, the device is detached. Needs Linux 5.8 (LOOP_CONFIGURE) and
// CAP_SYS_ADMIN.
//
// Errors: Unavailable if the kernel has no loop devices.
func Attach(file *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, errdefs.Unavailablef("the kernel has no loop devices: %w", err)
	}
	defer control.Close()
	for range attempts {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, os.NewSyscallError("LOOP_CTL_GET_FREE", err)
		}
		d, err := configure("/dev/loop"+strconv.Itoa(n), file)
		if !errors.Is(err, unix.EBUSY) {
			return d, err
		}
	}
	return nil, errdefs.Unavailablef("no loop device stays free for long enough")
}

func configure(path string, file *os.File) (*os.File, error) {
	d, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	c := unix.LoopConfig{Fd: uint32(file.Fd())}
	c.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
	copy(c.Info.File_name[:len(c.Info.File_name)-1], file.Name())
	sp := trace.Begin(trace.Mount, "loop", path+" "+file.Name())
	err = sp.End(sys.Error("LOOP_CONFIGURE", path, unix.IoctlLoopConfigure(int(d.Fd()), &c)))
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}
