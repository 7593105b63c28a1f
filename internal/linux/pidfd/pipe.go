package pidfd

import (
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"lade/internal/linux/sys"
)

// Pipes looks in the processes pids for pipes by their inode numbers, and calls
// found with the index of each that it finds and a descriptor of it, as one of
// the processes has it: the callee may use it until it returns. Pipes looks no
// further once all are found. 0 is no pipe's number.
//
// A process that ends meanwhile, or that we may not look into, has none. Blocks
// for as long as reading /proc takes.
//
// Sources: pidfd_getfd(2), from Linux 5.6; "/proc/pid/fd" in proc_pid_fd(5).
func Pipes(pids []int, inodes []uint64, found func(i, fd int)) {
	names := map[string]int{}
	for i, inode := range inodes {
		if inode != 0 {
			names["pipe:["+strconv.FormatUint(inode, 10)+"]"] = i
		}
	}
	for _, pid := range pids {
		if len(names) == 0 {
			return
		}
		dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			name, err := os.Readlink(filepath.Join(dir, e.Name()))
			if err != nil {
				continue
			}
			i, wanted := names[name]
			if number, err := strconv.Atoi(e.Name()); err == nil && wanted && take(pid, number, inodes[i], func(fd int) { found(i, fd) }) {
				delete(names, name)
			}
		}
	}
}

// take calls f with our own descriptor of what a process has at number, if that
// is the pipe: the process may have put something else there meanwhile.
func take(pid, number int, inode uint64, f func(fd int)) bool {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer sys.CloseAll(process)
	fd, err := unix.PidfdGetfd(process, number, 0)
	if err != nil {
		return false
	}
	defer sys.CloseAll(fd)
	if Pipe(fd) != inode {
		return false
	}
	f(fd)
	return true
}

// Pipe returns the inode number of the pipe that fd is, 0 if it is none.
func Pipe(fd int) uint64 {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return 0
	}
	return st.Ino
}
