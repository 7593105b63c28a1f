package server

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/logs"
)

// trimAfter is how long nothing must happen before memory is given back.
const trimAfter = time.Second

// How much garbage there may be, in percent of what is in use: most of our memory
// would be garbage otherwise. While containers are started it may be 2 MB: with
// half of that every fifth start has a collection beside it, which wakes every
// thread.
const (
	garbageBusy  = 50
	garbageQuiet = 25
)

// trim gives memory back to the kernel when the server has become quiet.
func (s *Server) trim() {
	if s.trimming {
		return
	}
	s.trimming = true
	debug.SetGCPercent(garbageBusy)
	s.trimSoon()
}

func (s *Server) trimSoon() {
	seen := s.activity
	s.poll.after(trimAfter, func() {
		if s.activity != seen || s.starts > 0 {
			s.trimSoon()
			return
		}
		s.trimming = false
		debug.SetGCPercent(garbageQuiet)
		s.lines = logs.Buffer{}
		debug.FreeOSMemory()
		dropCode()
	})
}

// dropCode unmaps the pages of our executable: the loop needs a tenth of what
// starting has touched. They are clean and in the page cache, from where the
// ones that are needed come back, a few microseconds each sixteen.
//
// Source: MADV_DONTNEED in madvise(2), on a private mapping of a file.
func dropCode() {
	var exe unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &exe); err != nil {
		return
	}
	inode := strconv.FormatUint(exe.Ino, 10) // its path may be nowhere: see runtime.Shield
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(maps)) {
		f := strings.Fields(line)
		if len(f) < 5 || f[4] != inode || f[1] != "r-xp" && f[1] != "r--p" {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		a, errA := strconv.ParseUint(from, 16, 64)
		b, errB := strconv.ParseUint(to, 16, 64)
		if errA == nil && errB == nil {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(a), uintptr(b-a), unix.MADV_DONTNEED) // they stay mapped then
		}
	}
}
