package server

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Harden makes the calling process fit to be a supervisor. What is not
// permitted is left as it is and returned, for the log.
//
//   - PR_SET_DUMPABLE 0: between clone3 and execve the processes of containers
//     share our memory; a container must not read it through /proc.
//   - PR_SET_CHILD_SUBREAPER: what containers' processes leave behind is ours.
//   - oom_score_adj -999: the kernel kills every container before us.
//   - RLIMIT_NOFILE: a container takes about six descriptors.
//   - Descriptors that were inherited, 0 to 2 excepted, are closed: they belong to
//     a daemon that may end long before us. Not after an upgrade.
//
// Sources: prctl(2), proc_pid_oom_score_adj(5), getrlimit(2).
func Harden() (refused []error) {
	note := func(call string, err error) {
		if err != nil {
			refused = append(refused, os.NewSyscallError(call, err))
		}
	}
	note("prctl PR_SET_DUMPABLE", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
	note("prctl PR_SET_CHILD_SUBREAPER", unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
	note("oom_score_adj", os.WriteFile("/proc/self/oom_score_adj", []byte("-999"), 0))
	if os.Getenv(stateVariable) == "" {
		note("close inherited descriptors", closeInherited())
	}
	const files = 1 << 20 // fs.nr_open
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		note("getrlimit", err)
		return refused
	}
	if lim.Max < files {
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: files}) == nil {
			return refused
		}
	}
	lim.Cur = lim.Max
	note("setrlimit RLIMIT_NOFILE", unix.Setrlimit(unix.RLIMIT_NOFILE, &lim))
	return refused
}

// closeInherited closes what was not opened by this program, which opens
// everything close-on-exec.
func closeInherited() error {
	fds, err := os.ReadDir("/proc/self/fd")
	for _, e := range fds {
		n, err := strconv.Atoi(e.Name())
		if err != nil || n < 3 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(n)
		}
	}
	return err
}
