package proc

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// hertz is USER_HZ, the unit of times in /proc: 100 on every architecture that
// Linux has had since 2.6 (time(7)).
const hertz = 100

// Process is one process.
type Process struct {
	Pid, PPid int
	UID       uint32
	Command   string // name, as in comm
	Cmdline   []string
	TTY       int // device number, 0 for none
	CPU       time.Duration
	Start     time.Duration // after boot
}

// Read returns a process. Errors: NotFound if it is gone.
func Read(pid int) (Process, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	raw, err := os.ReadFile(filepath.Join(dir, "stat"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return Process{}, errdefs.NotFoundf("no process %d", pid)
	}
	if err != nil {
		return Process{}, err
	}
	p, err := parseStat(raw)
	if err != nil {
		return p, err
	}
	p.Pid = pid
	if fi, err := os.Stat(dir); err == nil {
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			p.UID = st.Uid
		}
	}
	// A process that goes away between two reads has no command line, like a
	// zombie.
	if raw, err := os.ReadFile(filepath.Join(dir, "cmdline")); err == nil && len(raw) > 0 {
		p.Cmdline = strings.Split(strings.TrimRight(string(raw), "\x00"), "\x00")
	}
	return p, nil
}

// parseStat reads /proc/pid/stat. The name may hold spaces and parentheses, so
// the fields are counted from the last closing one.
func parseStat(raw []byte) (p Process, err error) {
	open, end := bytes.IndexByte(raw, '('), bytes.LastIndexByte(raw, ')')
	if open < 0 || end < open {
		return p, errdefs.Internalf("malformed /proc/pid/stat")
	}
	p.Command = string(raw[open+1 : end])
	f := strings.Fields(string(raw[end+1:]))
	if len(f) < 20 {
		return p, errdefs.Internalf("malformed /proc/pid/stat")
	}
	num := func(field int) int64 { // numbered as in the manual page; 3 is the first here
		n, convErr := strconv.ParseInt(f[field-3], 10, 64)
		err = errors.Join(err, convErr)
		return n
	}
	p.PPid, p.TTY = int(num(4)), int(num(7))
	p.CPU = time.Duration(num(14)+num(15)) * time.Second / hertz
	p.Start = time.Duration(num(22)) * time.Second / hertz
	return p, err
}

// Age returns for how long a process has run, by the clock that nobody sets and
// that goes on while the machine is suspended. Errors: NotFound if it is gone.
//
// Source: starttime in proc_pid_stat(5), which counts from CLOCK_BOOTTIME's zero.
func Age(pid int) (time.Duration, error) {
	p, err := Read(pid)
	if err != nil {
		return 0, err
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, os.NewSyscallError("clock_gettime", err)
	}
	return max(time.Duration(now.Nano())-p.Start, 0), nil
}

// TotalCPU returns the time that all processors of the machine have spent, idle
// or not, and how many there are.
func TotalCPU() (total time.Duration, cpus int, err error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		switch {
		case len(f) < 8 || !strings.HasPrefix(f[0], "cpu"):
			return total, cpus, nil
		case f[0] != "cpu":
			cpus++
			continue
		}
		// user nice system idle iowait irq softirq: guest time is part of user.
		for _, v := range f[1:8] {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				return 0, 0, err
			}
			total += time.Duration(n) * time.Second / hertz
		}
	}
	return total, cpus, nil
}

// BootTime returns when the machine was started.
func BootTime() (time.Time, error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}, err
	}
	for line := range strings.Lines(string(raw)) {
		if v, ok := strings.CutPrefix(line, "btime "); ok {
			sec, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return time.Unix(sec, 0), err
		}
	}
	return time.Time{}, errdefs.Internalf("/proc/stat has no btime")
}

// MemTotal returns the machine's memory in bytes.
//
// Source: proc_meminfo(5).
func MemTotal() (int64, error) {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errdefs.Internalf("/proc/meminfo has no MemTotal")
}
