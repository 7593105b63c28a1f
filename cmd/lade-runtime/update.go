package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/resctrl"
)

// number is a flag that knows whether it was given.
type number struct {
	v   *int64
	how func(string) (int64, error)
}

func (n *number) String() string {
	if n.v == nil {
		return ""
	}
	return strconv.FormatInt(*n.v, 10)
}

func (n *number) Set(s string) error {
	v, err := n.how(s)
	n.v = &v
	return err
}

func integer(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }

// size parses bytes with a unit of 1024: "64m", "1.5GiB"; -1 means no limit.
func size(s string) (int64, error) {
	digits := strings.TrimRight(strings.ToLower(s), "bikmgtp")
	unit := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(s[len(digits):]), "b"), "i")
	shift := strings.Index(" kmgtp", unit)
	if unit == "" {
		shift = 0
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if err != nil || shift < 0 || len(unit) > 1 || f < 0 && f != -1 {
		return 0, errdefs.Invalidf("invalid size: %q", s)
	}
	return int64(f * float64(int64(1)<<(10*shift))), nil
}

// natural is a number that has no sign.
func natural(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}

func unsigned(n *int64) *uint64 {
	if n == nil {
		return nil
	}
	u := uint64(*n)
	return &u
}

// limits are the flags of update.
type limits struct {
	weight, period, quota, burst, share, rtPeriod, rtRuntime, idle, memory, reservation, swap, kernel, kernelTCP, pids number

	cpus, mems, file string
	cache, bandwidth string
}

func (l *limits) flags() *flags {
	f := newFlags("update")
	f.StringVar(&l.file, "resources", "", "file with linux.resources of a spec, - for standard input")
	f.alias("r", "resources")
	for _, n := range []struct {
		name, usage string
		to          *number
		how         func(string) (int64, error)
	}{
		{"blkio-weight", "10 to 1000", &l.weight, integer},
		{"cpu-period", "microseconds", &l.period, natural},
		{"cpu-quota", "microseconds in a period", &l.quota, integer},
		{"cpu-burst", "microseconds", &l.burst, natural},
		{"cpu-share", "relative weight", &l.share, natural},
		{"cpu-rt-period", "microseconds", &l.rtPeriod, natural},
		{"cpu-rt-runtime", "microseconds in a period", &l.rtRuntime, integer},
		{"cpu-idle", "1: only when nothing else runs", &l.idle, integer},
		{"memory", "bytes", &l.memory, size},
		{"memory-reservation", "bytes", &l.reservation, size},
		{"memory-swap", "bytes, memory included; -1: unlimited", &l.swap, size},
		{"kernel-memory", "accepted: the kernel has it no more", &l.kernel, size},
		{"kernel-memory-tcp", "accepted: the kernel has it no more", &l.kernelTCP, size},
		{"pids-limit", "processes; -1: unlimited", &l.pids, integer},
	} {
		n.to.how = n.how
		f.Var(n.to, n.name, n.usage)
	}
	f.StringVar(&l.cpus, "cpuset-cpus", "", "processors to use")
	f.StringVar(&l.mems, "cpuset-mems", "", "memory nodes to use")
	f.StringVar(&l.cache, "l3-cache-schema", "", "parts of the L3 cache, as in linux.intelRdt")
	f.StringVar(&l.bandwidth, "mem-bw-schema", "", "memory bandwidth, as in linux.intelRdt")
	return f
}

// resources returns what is to change.
func (l *limits) resources(stdin io.Reader) (*specs.LinuxResources, error) {
	r := &specs.LinuxResources{}
	if l.file != "" {
		in := stdin
		if l.file != "-" {
			o, err := os.Open(l.file)
			if err != nil {
				return nil, err
			}
			defer o.Close()
			in = o
		}
		if err := json.NewDecoder(in).Decode(r); err != nil {
			return nil, errdefs.Invalidf("resources: %w", err)
		}
		if len(r.Devices) > 0 { // which replace all others
			r.Devices = append(r.Devices, cgroup.DefaultDevices()...)
		}
		return r, nil
	}
	r.CPU = &specs.LinuxCPU{
		Shares: unsigned(l.share.v), Quota: l.quota.v, Burst: unsigned(l.burst.v), Period: unsigned(l.period.v),
		RealtimeRuntime: l.rtRuntime.v, RealtimePeriod: unsigned(l.rtPeriod.v), Cpus: l.cpus, Mems: l.mems, Idle: l.idle.v,
	}
	r.Memory = &specs.LinuxMemory{Limit: l.memory.v, Reservation: l.reservation.v, Swap: l.swap.v}
	if l.pids.v != nil {
		r.Pids = &specs.LinuxPids{Limit: l.pids.v}
	}
	if l.weight.v != nil {
		if *l.weight.v < 0 || *l.weight.v > 1000 {
			return nil, errdefs.Invalidf("invalid blkio weight %d", *l.weight.v)
		}
		w := uint16(*l.weight.v)
		r.BlockIO = &specs.LinuxBlockIO{Weight: &w}
	}
	return r, nil
}

func update(ctx context.Context, a *app, args []string) error {
	var l limits
	id, err := l.flags().one(args)
	if err != nil {
		return err
	}
	c, err := a.load(id)
	if err != nil {
		return err
	}
	if c.Status == specs.StateStopped {
		return errdefs.Conflictf("container not running")
	}
	r, err := l.resources(a.stdin)
	if err != nil {
		return err
	}
	g, err := c.group()
	if err != nil {
		return err
	}
	if l.kernel.v != nil || l.kernelTCP.v != nil {
		a.log.Warn("limits of kernel memory have no effect: the kernel has them no more")
	}
	if err := c.updateRdt(&specs.LinuxIntelRdt{L3CacheSchema: l.cache, MemBwSchema: l.bandwidth}); err != nil {
		return err
	}
	if err := g.Update(r); err != nil {
		return err
	}
	return c.updateScope(ctx, r)
}

// updateRdt changes the container's group of the resctrl file system.
func (c *container) updateRdt(change *specs.LinuxIntelRdt) error {
	if change.L3CacheSchema == "" && change.MemBwSchema == "" {
		return nil
	}
	f, err := resctrl.At(resctrl.Dir)
	if err != nil {
		return err
	}
	s, err := c.spec()
	if err != nil {
		return err
	}
	return f.Change(c.ID, s.Linux.IntelRdt, change)
}
