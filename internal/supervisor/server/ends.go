package server

import (
	"os"

	"golang.org/x/sys/unix"

	"lade/internal/linux/sys"
	"lade/internal/supervisor/wire"
)

// keepEnds lets a container's pipes outlive us and the daemon together: the
// container itself holds both ends of each, because its descriptors are opened
// for reading and writing. So its output has a reader for as long as it has a
// writer: with nobody there it waits when the pipe is full, where SIGPIPE would
// have ended it, and who comes next finds the pipe in the container's processes
// (pidfd.Pipes) with what is in it.
//
// We still see the end of the output, when the last of them is closed. Input that
// a client may end must have one writer only, ours; and so an exec's pipes are as
// they were, since nobody carries on with it then.
//
// Source: fifo(7) for O_RDWR, which pipe(7) shares.
func (l *launch) keepEnds(stdio wire.Stdio) error {
	for i, fd := range l.theirs {
		if fd < 0 || i == 0 && stdio.StdinOnce {
			continue
		}
		both, err := unix.Open(sys.FDPath(fd), unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: sys.FDPath(fd), Err: err}
		}
		unix.Close(fd)
		l.theirs[i] = both
	}
	return nil
}
