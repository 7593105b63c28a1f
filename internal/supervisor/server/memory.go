package server

import (
	"math"
	goruntime "runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

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
// a collection reads 1.4 MB of tables of our executable, which a long wait
// (sleep.go) has just given back.
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
	s.poll.code = nil
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
		s.poll.code = codeMappings()
	})
}

// inUse returns what a memory limit of the Go runtime counts, in bytes.
func inUse() int64 {
	m := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(m)
	return int64(m[0].Value.Uint64() - m[1].Value.Uint64())
}
