package cgroup

import "lade/internal/errdefs"

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
	FailCount uint64 // v1 memory.failcnt; v2 memory.events "max"
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

// Stats reads the group's numbers. Errors: NotFound if the group is gone.
func (g *Group) Stats() (*Stats, error) { return nil, errdefs.NotImplementedf("cgroup stats") }
