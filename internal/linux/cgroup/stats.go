package cgroup

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Stats are a group's numbers, in the kernel's words and units. A part whose
// controller the host does not have is zero.
type Stats struct {
	CPU      CPU
	Memory   Memory
	Pids     Pids
	IO       []IO
	Hugetlb  map[string]Hugetlb // by page size: "2MB"
	Pressure Pressure
}

// CPU is the time that the group's processes have used. Times are
// nanoseconds.
type CPU struct {
	Usage  uint64
	User   uint64
	System uint64
	PerCPU []uint64 // v1 only

	Periods          uint64 // of enforcement that have elapsed
	ThrottledPeriods uint64
	ThrottledTime    uint64
}

// Memory is what the group has charged. Sizes are bytes; a limit that is not
// set is math.MaxUint64.
type Memory struct {
	Usage     uint64
	MaxUsage  uint64 // 0 where the kernel does not record it (v2 before 5.19)
	Limit     uint64
	FailCount uint64 // v1 memory.failcnt; v2 memory.events "oom", as Docker has it
	SwapUsage uint64 // v1: memory and swap; v2: swap
	SwapLimit uint64
	OOMKills  uint64
	Stat      map[string]uint64 // memory.stat
}

// Pids counts tasks (threads included). A limit that is not set is 0.
type Pids struct {
	Current uint64
	Limit   uint64
}

// IO is one number about one block device. File is the kernel's word for what
// is counted: v1 "io_service_bytes_recursive", "io_serviced_recursive", …;
// v2 "io.stat". Op is v1 "Read", "Write", "Sync", …; v2 "rbytes", "wbytes",
// "rios", "wios", …
type IO struct {
	Major, Minor uint64
	File, Op     string
	Value        uint64
}

// Hugetlb is the use of one huge page size, in bytes.
type Hugetlb struct {
	Usage     uint64
	MaxUsage  uint64 // v1 only
	FailCount uint64
}

// Pressure is what cpu.pressure, memory.pressure and io.pressure say (v2 and
// hybrid); nil where the kernel says nothing.
//
// Source: Documentation/accounting/psi.rst.
type Pressure struct {
	CPU, Memory, IO *PSI
}

// PSI is one pressure file.
type PSI struct {
	Some, Full PSILine
}

// PSILine holds percentages over three windows, and the total in microseconds.
type PSILine struct {
	Avg10, Avg60, Avg300 float64
	Total                uint64
}

// Stats reads the group's numbers. A file that this kernel lacks leaves its
// numbers zero. Errors: NotFound if the group is gone.
//
// Source: Documentation/admin-guide/cgroup-v1/{cpuacct,memory,pids,blkio-controller}.rst;
// cgroup-v2.rst, "Controllers".
func (g *Group) Stats() (*Stats, error) {
	r := reader{g: g}
	s := &Stats{}
	r.cpu(&s.CPU)
	r.memory(&s.Memory)
	if m := g.h.at["pids"]; m != nil {
		s.Pids.Current = r.number(m, "pids.current")
		if limit := r.number(m, "pids.max"); limit != math.MaxUint64 {
			s.Pids.Limit = limit
		}
	}
	r.io(s)
	r.hugetlb(s)
	if u := g.h.unified; u != nil {
		s.Pressure = Pressure{r.pressure(u, "cpu.pressure"), r.pressure(u, "memory.pressure"), r.pressure(u, "io.pressure")}
	}
	if r.err != nil || r.found == 0 {
		for _, m := range g.h.all() {
			if m.exists(g.path) {
				return s, r.err
			}
		}
		return nil, g.gone(unix.ENOENT)
	}
	return s, nil
}

// reader reads a group's files and keeps the first error that is not an absent
// file.
type reader struct {
	g     *Group
	err   error
	found int // files that were there
}

func (r *reader) read(m *hierarchy, file string) string {
	content, err := m.read(r.g.path, file)
	switch {
	case err == nil:
		r.found++
	case isGone(err), errors.Is(err, unix.EOPNOTSUPP): // EOPNOTSUPP: pressure is switched off
	case r.err == nil:
		r.err = err
	}
	return content
}

func (r *reader) number(m *hierarchy, file string) uint64 {
	v := r.read(m, file)
	if v == "" {
		return 0
	}
	return number(v)
}

// pairs calls f for each "key value" line.
func pairs(content string, f func(key string, v uint64)) {
	for line := range strings.Lines(content) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			f(k, number(v))
		}
	}
}

// userHZ is the unit of cpuacct.stat, which is the same on every architecture
// that Linux's user space knows.
const userHZ = 100

func (r *reader) cpu(c *CPU) {
	if m, ok := r.g.h.v1At("cpuacct"); ok {
		c.Usage = r.number(m, "cpuacct.usage")
		pairs(r.read(m, "cpuacct.stat"), func(k string, v uint64) {
			switch k {
			case "user":
				c.User = v * (1e9 / userHZ)
			case "system":
				c.System = v * (1e9 / userHZ)
			}
		})
		for f := range strings.FieldsSeq(r.read(m, "cpuacct.usage_percpu")) {
			c.PerCPU = append(c.PerCPU, number(f))
		}
	}
	m, isV1 := r.g.h.v1At("cpu")
	if !isV1 {
		if m = r.g.h.unified; m == nil {
			return
		}
	}
	hasUsage := c.Usage > 0
	pairs(r.read(m, "cpu.stat"), func(k string, v uint64) {
		switch k {
		case "nr_periods":
			c.Periods = v
		case "nr_throttled":
			c.ThrottledPeriods = v
		case "throttled_time":
			c.ThrottledTime = v
		case "throttled_usec":
			c.ThrottledTime = v * 1000
		}
		if hasUsage {
			return
		}
		switch k {
		case "usage_usec":
			c.Usage = v * 1000
		case "user_usec":
			c.User = v * 1000
		case "system_usec":
			c.System = v * 1000
		}
	})
}

func (r *reader) memory(s *Memory) {
	m := r.g.h.at["memory"]
	if m == nil {
		return
	}
	names := [...]string{"memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.limit_in_bytes", "memory.memsw.usage_in_bytes", "memory.memsw.limit_in_bytes"}
	if m.v2 {
		names = [...]string{"memory.current", "memory.peak", "memory.max", "memory.swap.current", "memory.swap.max"}
	}
	for i, to := range []*uint64{&s.Usage, &s.MaxUsage, &s.Limit, &s.SwapUsage, &s.SwapLimit} {
		*to = r.number(m, names[i])
	}
	s.Stat = map[string]uint64{}
	pairs(r.read(m, "memory.stat"), func(k string, v uint64) { s.Stat[k] = v })
	if m.v2 {
		pairs(r.read(m, "memory.events"), func(k string, v uint64) {
			switch k {
			case "oom":
				s.FailCount = v
			case "oom_kill":
				s.OOMKills = v
			}
		})
		return
	}
	s.FailCount = r.number(m, "memory.failcnt")
	// v1 writes "no limit" as the largest number of whole pages.
	for _, limit := range []*uint64{&s.Limit, &s.SwapLimit} {
		if *limit >= math.MaxInt64&^0xffff {
			*limit = math.MaxUint64
		}
	}
	s.OOMKills, _ = r.g.oomKills(m, r.g.path)
}

func (r *reader) io(s *Stats) {
	if m, ok := r.g.h.v1At("blkio"); ok {
		// BFQ's files exist only where that scheduler is compiled in; they count
		// what it scheduled. Throttling's count everything.
		for _, f := range []string{"io_service_bytes_recursive", "io_serviced_recursive"} {
			before := len(s.IO)
			for _, from := range []string{"blkio.bfq.", "blkio.throttle."} {
				if len(s.IO) == before {
					s.IO = append(s.IO, parseBlkio(f, r.read(m, from+f))...)
				}
			}
		}
		return
	}
	if m, ok := r.g.h.v2At("io"); ok {
		s.IO = parseIOStat(r.read(m, "io.stat"))
	}
}

// parseBlkio reads lines such as "8:0 Read 4096"; the last, "Total 4096", is
// left out.
func parseBlkio(file, content string) (out []IO) {
	for line := range strings.Lines(content) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		if e, ok := parseDevice(f[0]); ok {
			e.File, e.Op, e.Value = file, f[1], number(f[2])
			out = append(out, e)
		}
	}
	return out
}

// parseIOStat reads lines such as "8:0 rbytes=4096 wbytes=0 rios=1 …".
func parseIOStat(content string) (out []IO) {
	for line := range strings.Lines(content) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		e, ok := parseDevice(f[0])
		if !ok {
			continue
		}
		for _, kv := range f[1:] {
			if k, v, ok := strings.Cut(kv, "="); ok {
				e.File, e.Op, e.Value = "io.stat", k, number(v)
				out = append(out, e)
			}
		}
	}
	return out
}

func parseDevice(s string) (e IO, ok bool) {
	a, b, ok := strings.Cut(s, ":")
	if !ok {
		return e, false
	}
	var err error
	if e.Major, err = strconv.ParseUint(a, 10, 32); err != nil {
		return e, false
	}
	e.Minor, err = strconv.ParseUint(b, 10, 32)
	return e, err == nil
}

func (r *reader) hugetlb(s *Stats) {
	m := r.g.h.at["hugetlb"]
	if m == nil {
		return
	}
	for _, size := range r.g.h.pageSizes() {
		p := "hugetlb." + size + "."
		var h Hugetlb
		if m.v2 {
			h.Usage = r.number(m, p+"current")
			if v, ok := field(r.read(m, p+"events"), "max"); ok {
				h.FailCount = number(v)
			}
		} else {
			h = Hugetlb{r.number(m, p+"usage_in_bytes"), r.number(m, p+"max_usage_in_bytes"), r.number(m, p+"failcnt")}
		}
		if s.Hugetlb == nil {
			s.Hugetlb = map[string]Hugetlb{}
		}
		s.Hugetlb[size] = h
	}
}

func (r *reader) pressure(m *hierarchy, file string) *PSI {
	return parsePSI(r.read(m, file))
}

// parsePSI reads "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and the same
// for "full".
func parsePSI(content string) *PSI {
	var p PSI
	found := false
	for line := range strings.Lines(content) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		to := &p.Some
		if f[0] == "full" {
			to = &p.Full
		}
		for _, kv := range f[1:] {
			k, v, _ := strings.Cut(kv, "=")
			x, err := strconv.ParseFloat(v, 64)
			if err != nil {
				continue
			}
			found = true
			switch k {
			case "avg10":
				to.Avg10 = x
			case "avg60":
				to.Avg60 = x
			case "avg300":
				to.Avg300 = x
			case "total":
				to.Total = number(v)
			}
		}
	}
	if !found {
		return nil
	}
	return &p
}
