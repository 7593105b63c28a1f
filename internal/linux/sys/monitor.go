package sys

import (
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// CalmMonitor lets the kernel wake the monitor thread of the Go runtime as late
// as slack says. While anything runs that thread sleeps for 20 µs at a time,
// ten thousand wake-ups a second, which are a third of the processor time of a
// daemon that waits for the kernel more than it computes. What it does,
// taking a goroutine's processor (one of GOMAXPROCS) in long system calls or long
// loops, can wait so long, as long as another one is free.
//
// It is to be called first thing in main. Only that thread is changed: the slack
// is inherited by what a thread clones, and the monitor clones nothing. Where the
// kernel does not permit it nothing changes.
//
// Sources: sysmon in the runtime's proc.go; PR_SET_TIMERSLACK in prctl(2);
// proc_pid_timerslack_ns(5).
func CalmMonitor(slack time.Duration) {
	monitor := monitorThread()
	if monitor == 0 {
		return
	}
	// Not below /proc/self/task: the file is a process's, found by any number.
	// Not by package os, which would begin with its poller.
	fd, err := unix.Open("/proc/"+strconv.Itoa(monitor)+"/timerslack_ns", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer CloseAll(fd)
	_, _ = unix.Write(fd, strconv.AppendInt(nil, int64(slack), 10)) // not permitted: as before
}

// monitorThread returns the monitor's number, or 0. The runtime makes it first of
// all threads, and numbers are given in order: it is the next after ours, unless
// another process has taken that one. To look for it alone spares the kernel the
// entries of the other threads, which it would have to take back when they end.
func monitorThread() int {
	pid := os.Getpid()
	if unix.Access("/proc/self/task/"+strconv.Itoa(pid+1), unix.F_OK) == nil {
		return pid + 1
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return 0
	}
	// The next after ours, or, had the kernel begun anew, the lowest.
	next, lowest := 0, 0
	for _, t := range tasks {
		n, err := strconv.Atoi(t.Name())
		if err != nil || n == pid {
			continue
		}
		if n > pid && (next == 0 || n < next) {
			next = n
		}
		if lowest == 0 || n < lowest {
			lowest = n
		}
	}
	if next == 0 {
		return lowest
	}
	return next
}
