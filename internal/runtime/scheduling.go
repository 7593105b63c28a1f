package runtime

import (
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// Sources: sched_setattr(2), ioprio_set(2), sched_setaffinity(2),
// set_mempolicy(2); OCI runtime-spec, config.md "Linux Process", config-linux.md
// "Memory policy".

// policies are the numbers of include/uapi/linux/sched.h.
func policy(p specs.LinuxSchedulerPolicy) (n uint64, ok bool) {
	switch p {
	case specs.SchedOther:
		return unix.SCHED_NORMAL, true
	case specs.SchedFIFO:
		return unix.SCHED_FIFO, true
	case specs.SchedRR:
		return unix.SCHED_RR, true
	case specs.SchedBatch:
		return unix.SCHED_BATCH, true
	case specs.SchedISO:
		return 4, true // reserved by the kernel, which refuses it
	case specs.SchedIdle:
		return unix.SCHED_IDLE, true
	case specs.SchedDeadline:
		return unix.SCHED_DEADLINE, true
	}
	return 0, false
}

func schedulerFlag(f specs.LinuxSchedulerFlag) uint64 {
	switch f {
	case specs.SchedFlagResetOnFork:
		return unix.SCHED_FLAG_RESET_ON_FORK
	case specs.SchedFlagReclaim:
		return unix.SCHED_FLAG_RECLAIM
	case specs.SchedFlagDLOverrun:
		return unix.SCHED_FLAG_DL_OVERRUN
	case specs.SchedFlagKeepPolicy:
		return unix.SCHED_FLAG_KEEP_POLICY
	case specs.SchedFlagKeepParams:
		return unix.SCHED_FLAG_KEEP_PARAMS
	case specs.SchedFlagUtilClampMin:
		return unix.SCHED_FLAG_UTIL_CLAMP_MIN
	case specs.SchedFlagUtilClampMax:
		return unix.SCHED_FLAG_UTIL_CLAMP_MAX
	}
	return 0
}

// schedulerWords returns a struct sched_attr.
func schedulerWords(s *specs.Scheduler) ([]uint64, error) {
	n, ok := policy(s.Policy)
	if !ok {
		return nil, errdefs.Invalidf("invalid scheduler policy: %q", s.Policy)
	}
	if s.Nice < -20 || s.Nice > 19 {
		return nil, errdefs.Invalidf("invalid scheduler.nice: %d when valid range is -20 to 19", s.Nice)
	}
	if s.Priority != 0 && s.Policy != specs.SchedFIFO && s.Policy != specs.SchedRR {
		return nil, errdefs.Invalidf("scheduler.priority can only be specified for SchedFIFO or SchedRR policy")
	}
	if (s.Runtime != 0 || s.Deadline != 0 || s.Period != 0) && s.Policy != specs.SchedDeadline {
		return nil, errdefs.Invalidf("scheduler runtime/deadline/period can only be specified for SchedDeadline policy")
	}
	var flags uint64
	for _, f := range s.Flags {
		bit := schedulerFlag(f)
		if bit == 0 {
			return nil, errdefs.Invalidf("invalid scheduler flag: %q", f)
		}
		flags |= bit
	}
	const size = 48
	return []uint64{size | n<<32, flags, uint64(uint32(s.Nice)) | uint64(uint32(s.Priority))<<32, s.Runtime, s.Deadline, s.Period}, nil
}

// ioPriority returns the value that ioprio_set(2) takes.
func ioPriority(p *specs.LinuxIOPriority) (uint64, error) {
	if p.Priority < 0 || p.Priority > 7 {
		return 0, errdefs.Invalidf("invalid ioPriority.Priority: %d", p.Priority)
	}
	var class uint64
	switch p.Class {
	case specs.IOPRIO_CLASS_RT:
		class = 1
	case specs.IOPRIO_CLASS_BE:
		class = 2
	case specs.IOPRIO_CLASS_IDLE:
		class = 3
	default:
		return 0, errdefs.Invalidf("invalid ioPriority.Class: %q", p.Class)
	}
	return class<<13 | uint64(p.Priority), nil
}

// checkScheduling refuses what has no meaning for the kernel.
func checkScheduling(p *specs.Process) (err error) {
	if p.Scheduler != nil {
		if _, err = schedulerWords(p.Scheduler); err != nil {
			return err
		}
	}
	if p.IOPriority != nil {
		if _, err = ioPriority(p.IOPriority); err != nil {
			return err
		}
	}
	_, err = affinityOf(p.ExecCPUAffinity)
	return err
}

// scheduling sets what checkScheduling has passed.
func (b *builder) scheduling(p *specs.Process) {
	if p.Scheduler != nil {
		w, _ := schedulerWords(p.Scheduler)
		b.stage("error setting scheduler", bare)
		b.p.Sys("sched_setattr", string(p.Scheduler.Policy), unix.SYS_SCHED_SETATTR, 0, b.p.Words(w...), 0)
	}
	if p.IOPriority != nil {
		v, _ := ioPriority(p.IOPriority)
		const who = 1 // IOPRIO_WHO_PROCESS
		b.stage("failed to set io priority", bare)
		b.p.Sys("ioprio_set", string(p.IOPriority.Class), unix.SYS_IOPRIO_SET, who, 0, v)
	}
}

// affinity are the processors of an exec: before it joins the container's
// control group, and after.
type affinity struct{ initial, final []uint64 }

func affinityOf(a *specs.CPUAffinity) (out affinity, err error) {
	if a == nil {
		return out, nil
	}
	if out.initial, err = bitmap("execCPUAffinity.initial", a.Initial); err != nil {
		return out, err
	}
	out.final, err = bitmap("execCPUAffinity.final", a.Final)
	return out, err
}

func (b *builder) setAffinity(set []uint64) {
	if len(set) == 0 {
		return
	}
	b.stage("error setting cpu affinity", bare)
	b.p.Sys("sched_setaffinity", "", unix.SYS_SCHED_SETAFFINITY, 0, uint64(8*len(set)), b.p.Words(set...))
}

// maxBits is more than the kernel's largest number of processors or nodes.
const maxBits = 8192

// bitmap parses a list such as "0-3,7", the format of cpuset(7), into words of
// 64 bits. An empty list is nil.
func bitmap(what, list string) ([]uint64, error) {
	var out []uint64
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		from, to, is := strings.Cut(part, "-")
		if !is {
			to = from
		}
		first, err := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err != nil || err2 != nil || first < 0 || last < first || last >= maxBits {
			return nil, errdefs.Invalidf("%s: invalid list %q", what, list)
		}
		for n := first; n <= last; n++ {
			for len(out) <= n/64 {
				out = append(out, 0)
			}
			out[n/64] |= 1 << (n % 64)
		}
	}
	return out, nil
}

func memoryMode(m specs.MemoryPolicyModeType) (n uint64, ok bool) {
	switch m {
	case specs.MpolDefault:
		return unix.MPOL_DEFAULT, true
	case specs.MpolPreferred:
		return unix.MPOL_PREFERRED, true
	case specs.MpolBind:
		return unix.MPOL_BIND, true
	case specs.MpolInterleave:
		return unix.MPOL_INTERLEAVE, true
	case specs.MpolLocal:
		return unix.MPOL_LOCAL, true
	case specs.MpolPreferredMany:
		return unix.MPOL_PREFERRED_MANY, true
	case specs.MpolWeightedInterleave:
		return unix.MPOL_WEIGHTED_INTERLEAVE, true
	}
	return 0, false
}

func memoryFlag(f specs.MemoryPolicyFlagType) uint64 {
	switch f {
	case specs.MpolFNumaBalancing:
		return unix.MPOL_F_NUMA_BALANCING
	case specs.MpolFRelativeNodes:
		return unix.MPOL_F_RELATIVE_NODES
	case specs.MpolFStaticNodes:
		return unix.MPOL_F_STATIC_NODES
	}
	return 0
}

// inherited sets what execve(2) keeps, for the container's process and for those
// that are executed in it later.
func (b *builder) inherited(per *specs.LinuxPersonality, memory *specs.LinuxMemoryPolicy) error {
	if per != nil {
		domain, ok := personality(per.Domain)
		if !ok {
			return errdefs.Invalidf("invalid personality domain %s", per.Domain)
		}
		b.stage("unable to set personality", bare)
		b.p.Sys("personality", string(per.Domain), unix.SYS_PERSONALITY, domain)
	}
	return b.memoryPolicy(memory)
}

// memoryPolicy sets the NUMA policy, which execve(2) keeps.
func (b *builder) memoryPolicy(m *specs.LinuxMemoryPolicy) error {
	if m == nil {
		return nil
	}
	mode, ok := memoryMode(m.Mode)
	if !ok {
		return errdefs.Invalidf("invalid memory policy mode: %q", m.Mode)
	}
	for _, f := range m.Flags {
		bit := memoryFlag(f)
		if bit == 0 {
			return errdefs.Invalidf("invalid memory policy flag: %q", f)
		}
		mode |= bit
	}
	nodes, err := bitmap("memoryPolicy.nodes", m.Nodes)
	if err != nil {
		return err
	}
	var mask, bits uint64
	if len(nodes) > 0 {
		// The kernel takes one bit less than it is told.
		mask, bits = b.p.Words(nodes...), uint64(64*len(nodes)+1)
	}
	b.stage("unable to set memory policy", bare)
	b.p.Sys("set_mempolicy", string(m.Mode), unix.SYS_SET_MEMPOLICY, mode, mask, bits)
	return nil
}
