package server

import (
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"lade/internal/program"
)

// fallsAsleep is how long after its last goroutine has stopped the Go runtime
// itself is surely at rest: its monitor looks for work for some 50 ms more.
const fallsAsleep = 250 * time.Millisecond

// wait waits for events, at most ms milliseconds; -1: for ever.
//
// With p.code, a wait that becomes long unmaps the pages of our executable, of
// which the loop needs a tenth of what starting has touched. They are clean and
// in the page cache, from where those that are needed come back, a few
// microseconds each sixteen. Go code that unmapped them and went to sleep
// afterwards would have brought 900 kB of them back on its way, and the Go
// runtime on its own: so that is left to program.Series, which takes 64.
//
// Source: MADV_DONTNEED in madvise(2), on a private mapping of a file.
func (p *poller) wait(ms int) (int, error) {
	first := int(fallsAsleep / time.Millisecond)
	if len(p.code) == 0 || ms >= 0 && ms <= first {
		return unix.EpollWait(p.epoll, p.events, ms)
	}
	rest := ms
	if ms >= 0 {
		rest -= first
	}
	p.calls = append(p.calls[:0], p.epollWait(first))
	for _, m := range p.code {
		p.calls = append(p.calls, program.Call{Nr: unix.SYS_MADVISE, Args: [6]uintptr{m.from, m.to - m.from, unix.MADV_DONTNEED}})
	}
	p.calls = append(p.calls, p.epollWait(rest))
	i := program.Series(p.calls)
	if i == len(p.calls) {
		return 0, nil
	}
	last := &p.calls[i]
	if last.Nr == unix.SYS_MADVISE { // not permitted: they stay mapped
		p.code = nil
		return 0, nil
	}
	return last.Result, last.Err()
}

func (p *poller) epollWait(ms int) program.Call {
	return program.Call{Nr: unix.SYS_EPOLL_PWAIT, Args: [6]uintptr{
		uintptr(p.epoll), uintptr(unsafe.Pointer(unsafe.SliceData(p.events))), uintptr(len(p.events)), uintptr(ms),
	}}
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
