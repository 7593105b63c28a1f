package server

import (
	"math"
	"os"
	goruntime "runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/logs"
)

// trimAfter is how long nothing must happen before memory is given back.
const trimAfter = time.Second

// garbageBusy is how much garbage there may be while containers are started, in
// percent of what is in use, which comes to 2 MB: with half of that every fifth
// start has a collection beside it, which wakes every thread.
const garbageBusy = 50

// garbageQuiet is how much garbage there may be while nothing is started, in
// bytes. It is a limit, and not a percentage, because the Go runtime then
// collects when there is something to collect, and not every two minutes:
// a collection reads 1.4 MB of tables of our executable, which dropCode has
// just given back.
const garbageQuiet = 2 << 20

// settled is longer than any timer that ends with something runs. Only the one of
// IdleExit is longer.
const settled = 5 * time.Second

// trim gives memory back to the kernel when the server has become quiet.
func (s *Server) trim() {
	if s.trimming {
		return
	}
	s.trimming = true
	debug.SetMemoryLimit(math.MaxInt64)
	debug.SetGCPercent(garbageBusy)
	s.trimSoon()
}

func (s *Server) trimSoon() {
	seen := s.activity
	s.poll.after(trimAfter, func() {
		if s.activity != seen || s.starts > 0 || s.poll.soon(settled) {
			s.trimSoon()
			return
		}
		s.trimming = false
		s.lines, s.large = logs.Buffer{}, nil
		s.o.Launcher.Trim()
		goruntime.GC() // what it takes apart, the next one frees
		debug.FreeOSMemory()
		debug.SetMemoryLimit(inUse() + garbageQuiet)
		debug.SetGCPercent(-1)
		s.dropCode()
	})
}

// inUse returns what a memory limit of the Go runtime counts, in bytes.
func inUse() int64 {
	m := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(m)
	return int64(m[0].Value.Uint64() - m[1].Value.Uint64())
}

// dropCode unmaps the pages of our executable: the loop needs a tenth of what
// starting has touched. They are clean and in the page cache, from where the
// ones that are needed come back, a few microseconds each sixteen. It does so
// once more when the Go runtime, too, has settled.
//
// Source: MADV_DONTNEED in madvise(2), on a private mapping of a file.
func (s *Server) dropCode() {
	code := codeMappings()
	drop := func() {
		for _, m := range code {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED) // they stay mapped then
		}
	}
	drop()
	s.poll.after(trimAfter, drop)
}

// mapping is a part of our address space.
type mapping struct{ from, to uintptr }

// codeMappings returns where our code and its tables are; nothing when it cannot
// tell.
func codeMappings() (code []mapping) {
	var exe unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &exe); err != nil {
		return nil
	}
	inode := strconv.FormatUint(exe.Ino, 10) // its path may be nowhere: see runtime.Shield
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil
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
			code = append(code, mapping{uintptr(a), uintptr(b)})
		}
	}
	return code
}
