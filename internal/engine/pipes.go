package engine

import (
	"os"

	"golang.org/x/sys/unix"

	"lade/internal/linux/cgroup"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/sys"
	"lade/internal/supervisor"
)

// pipesOf returns the numbers by which a started process's pipes are found again
// in it: container.Record, Pipes.
func pipesOf(s *supervisor.Started) (inodes [3]uint64) {
	for i, f := range []*os.File{s.Stdin, s.Stdout, s.Stderr} {
		if f == nil {
			continue
		}
		if raw, err := f.SyscallConn(); err == nil { // Fd would make it block
			_ = raw.Control(func(fd uintptr) { inodes[i] = pidfd.Pipe(int(fd)) })
		}
	}
	return inodes
}

// takePipes opens our ends of a container's pipes again, where its processes
// still have theirs, and reports whether it got any. A process that has closed
// its standard streams, and left them to no other, has no more to say.
func takePipes(g *cgroup.Group, inodes [3]uint64, s *supervisor.Started) (found bool) {
	pids, err := g.Pids()
	if err != nil {
		return false // it has just ended
	}
	ours := []struct {
		file **os.File
		mode int
	}{{&s.Stdin, unix.O_WRONLY}, {&s.Stdout, unix.O_RDONLY}, {&s.Stderr, unix.O_RDONLY}}
	pidfd.Pipes(pids, inodes[:], func(i, theirs int) {
		fd, err := unix.Open(sys.FDPath(theirs), ours[i].mode|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return
		}
		_ = unix.SetNonblock(fd, false) // it was for open(2) alone
		*ours[i].file = os.NewFile(uintptr(fd), "container")
		found = true
	})
	return found
}
