package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// setting is one file to write.
type setting struct {
	m     *hierarchy
	file  string
	value string
	// alt and altValue are for kernels that lack file; an empty altValue is
	// value.
	alt, altValue string
	// pair marks the first of two settings that constrain each other: when the
	// kernel refuses it, the second is written first.
	pair bool
	// optional settings are skipped where the file does not exist.
	optional bool
	// initial is what a new group has; empty: not known.
	initial string
}

// plan is what a LinuxResources means on this host.
type plan struct {
	settings []setting
	unified  []string // controllers of the unified hierarchy that settings need
	devices  *devicePolicy
	// checkMemory is the limit that memory in use must not exceed (v2; the
	// kernel would kill instead of refusing).
	checkMemory int64
}

// kinds is the table of limits by controller: the controller's names, and how
// its limits are written in each version. A function returns settings without
// their hierarchy.
var kinds = [...]struct {
	v1name, v2name string
	v1, v2         func(r *specs.LinuxResources) ([]setting, error)
}{
	{"memory", "memory", memoryV1, memoryV2},
	{"cpu", "cpu", cpuV1, cpuV2},
	{"cpuset", "cpuset", cpuset, cpuset},
	{"pids", "pids", pidsV1, pidsV2},
	{"blkio", "io", blkioV1, ioV2},
	{"hugetlb", "hugetlb", hugetlbV1, hugetlbV2},
	{"rdma", "rdma", rdma, rdma},
}

// plan translates r, and refuses what this host cannot do.
func (h *Host) plan(r *specs.LinuxResources) (*plan, error) {
	p := &plan{}
	if r == nil {
		return p, nil
	}
	for i := range kinds {
		k := &kinds[i]
		m, isV1 := h.v1At(k.v1name)
		name, make := k.v1name, k.v1
		if !isV1 {
			if v2, ok := h.v2At(k.v2name); ok || len(h.v1) == 0 {
				m, name, make = v2, k.v2name, k.v2
			}
		}
		set, err := make(r)
		if err != nil {
			return nil, err
		}
		if len(set) == 0 {
			continue
		}
		if m == nil {
			return nil, errdefs.Invalidf("this host has no %q control group controller, which %s needs", name, set[0].file)
		}
		if m.v2 {
			p.unified = append(p.unified, name)
		}
		for _, s := range set {
			s.m = m
			p.settings = append(p.settings, s)
		}
	}
	if err := h.planUnified(p, r); err != nil {
		return nil, err
	}
	if mem := r.Memory; mem != nil && mem.CheckBeforeUpdate != nil && *mem.CheckBeforeUpdate && mem.Limit != nil && len(h.v1) == 0 {
		p.checkMemory = *mem.Limit
	}
	var err error
	if len(r.Devices) > 0 {
		p.devices, err = newDevicePolicy(r.Devices)
	}
	return p, err
}

// planUnified adds the raw keys of r.Unified ("memory.high": "1000000").
func (h *Host) planUnified(p *plan, r *specs.LinuxResources) error {
	for _, key := range slices.Sorted(maps.Keys(r.Unified)) {
		controller, _, ok := strings.Cut(key, ".")
		if !ok || strings.Contains(key, "/") {
			return errdefs.Invalidf("unified resource %q must be a file name", key)
		}
		if h.unified == nil {
			return errdefs.Invalidf("unified resources need control groups version 2")
		}
		if controller != "cgroup" {
			if _, ok := h.v2At(controller); !ok {
				return errdefs.Invalidf("unified resource %q can't be set: controller %q not available", key, controller)
			}
			p.unified = append(p.unified, controller)
		}
		p.settings = append(p.settings, setting{m: h.unified, file: key, value: r.Unified[key]})
	}
	return nil
}

// apply writes a plan's settings in order.
func (g *Group) apply(p *plan, fresh bool) error {
	if p.checkMemory > 0 && !fresh {
		if v, err := g.h.unified.read(g.path, "memory.current"); err == nil {
			if usage := number(v); usage > uint64(p.checkMemory) {
				return errdefs.Invalidf("rejecting memory limit %d <= usage %d", p.checkMemory, usage)
			}
		}
	}
	for i := 0; i < len(p.settings); i++ {
		s := p.settings[i]
		if fresh && !g.Taken && s.value == s.initial {
			continue
		}
		err := g.set(s)
		if err != nil && s.pair && i+1 < len(p.settings) && errors.Is(err, unix.EINVAL) {
			i++
			if g.set(p.settings[i]) == nil {
				err = g.set(s)
			}
		}
		if err != nil {
			return g.refused(s, err)
		}
	}
	// The kernel takes rules for devices from the host's root alone; in a user
	// namespace no device can be made anyway.
	if p.devices == nil || g.h.nested {
		return nil
	}
	if m, ok := g.h.v1At("devices"); ok {
		return g.setDevicesV1(m, p.devices, fresh)
	}
	if g.h.unified != nil {
		return g.setDevicesV2(p.devices, fresh)
	}
	return errdefs.Invalidf("this host has no \"devices\" control group controller, which device rules need")
}

func (g *Group) set(s setting) error {
	err := s.m.write(g.path, s.file, s.value)
	if s.alt != "" && errors.Is(err, unix.ENOENT) {
		err = s.m.write(g.path, s.alt, cmp.Or(s.altValue, s.value))
	}
	if s.optional && errors.Is(err, unix.ENOENT) && s.m.exists(g.path) {
		return nil
	}
	return err
}

// refused classifies the kernel's answer to a limit.
func (g *Group) refused(s setting, err error) error {
	switch {
	case isGone(err) && !s.m.exists(g.path):
		return g.gone(err)
	case errors.Is(err, unix.ENOENT):
		return errdefs.Invalidf("this host does not support %s: %w", s.file, err)
	case errors.Is(err, unix.EBUSY) && s.file == "memory.limit_in_bytes":
		usage, _ := s.m.read(g.path, "memory.usage_in_bytes")
		peak, _ := s.m.read(g.path, "memory.max_usage_in_bytes")
		return errdefs.Invalidf("unable to set memory limit to %s (current usage: %d, peak usage: %d)", s.value, number(usage), number(peak))
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("set %s to %s: %w", s.file, s.value, err)
	}
	return errdefs.Invalidf("set %s to %q: %w", s.file, s.value, err)
}

// number parses a kernel number; "max" and what is not a number read as
// math.MaxUint64 and 0.
func number(s string) uint64 {
	s = strings.TrimSpace(s)
	if s == "max" || s == "-1" {
		return math.MaxUint64
	}
	n, _ := strconv.ParseUint(s, 10, 64)
	return n
}

func itoa(n int64) string  { return strconv.FormatInt(n, 10) }
func utoa(n uint64) string { return strconv.FormatUint(n, 10) }

// orMax writes a v2 limit: a negative one is "max".
func orMax(n int64) string {
	if n < 0 {
		return "max"
	}
	return itoa(n)
}

// asked reports whether a limit is there; OCI runtimes take 0 as "leave it".
func asked[T int64 | uint64 | uint16](p *T) bool { return p != nil && *p != 0 }

// memoryV1: memory.memsw.limit_in_bytes must never be below
// memory.limit_in_bytes, so the two are a pair.
func memoryV1(r *specs.LinuxResources) (set []setting, err error) {
	m := r.Memory
	if m == nil {
		return nil, nil
	}
	if asked(m.Limit) {
		set = append(set, setting{file: "memory.limit_in_bytes", value: itoa(*m.Limit), pair: true})
	}
	switch {
	case asked(m.Swap):
		set = append(set, setting{file: "memory.memsw.limit_in_bytes", value: itoa(*m.Swap)})
	case asked(m.Limit) && *m.Limit == -1: // no limit on memory means none on swap
		set = append(set, setting{file: "memory.memsw.limit_in_bytes", value: "-1", optional: true})
	case asked(m.Limit):
		set[0].pair = false
	}
	if asked(m.Reservation) {
		set = append(set, setting{file: "memory.soft_limit_in_bytes", value: itoa(*m.Reservation)})
	}
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		set = append(set, setting{file: "memory.oom_control", value: "1"})
	}
	if m.Swappiness != nil {
		if *m.Swappiness > 100 {
			return nil, errdefs.Invalidf("invalid memory swappiness value: %d (valid range is 0-100)", *m.Swappiness)
		}
		set = append(set, setting{file: "memory.swappiness", value: utoa(*m.Swappiness)})
	}
	return set, nil
}

// memoryV2: swap.max counts swap alone, OCI's swap is memory and swap.
// Swappiness and disableOOMKiller have no counterpart and are ignored.
func memoryV2(r *specs.LinuxResources) (set []setting, err error) {
	m := r.Memory
	if m == nil {
		return nil, nil
	}
	var limit int64
	if m.Limit != nil {
		limit = *m.Limit
	}
	var swap string
	switch {
	case !asked(m.Swap):
		if limit == -1 {
			swap = "max"
		}
	case *m.Swap < 0:
		swap = "max"
	case limit <= 0:
		return nil, errdefs.Invalidf("unable to set swap limit without memory limit")
	case *m.Swap < limit:
		return nil, errdefs.Invalidf("memory+swap limit should be >= memory limit")
	default:
		swap = itoa(*m.Swap - limit)
	}
	if swap != "" {
		// Without swap accounting "no more than memory" and "no limit" are what
		// the host does anyway.
		set = append(set, setting{file: "memory.swap.max", value: swap, optional: swap == "0" || swap == "max"})
	}
	if limit != 0 {
		set = append(set, setting{file: "memory.max", value: orMax(limit)})
	}
	if asked(m.Reservation) {
		set = append(set, setting{file: "memory.low", value: orMax(*m.Reservation)})
	}
	return set, nil
}

// cfsPeriod is the period of a new group of version 1, in microseconds:
// default_cfs_period in kernel/sched/fair.c.
const cfsPeriod = "100000"

// cpuV1: a parent's bandwidth bounds quota/period, so the two are a pair.
func cpuV1(r *specs.LinuxResources) (set []setting, err error) {
	c := r.CPU
	if c == nil {
		return nil, nil
	}
	if asked(c.Shares) {
		set = append(set, setting{file: "cpu.shares", value: utoa(*c.Shares)})
	}
	if asked(c.Period) {
		set = append(set, setting{file: "cpu.cfs_period_us", value: utoa(*c.Period), pair: asked(c.Quota), initial: cfsPeriod})
	}
	if asked(c.Quota) {
		set = append(set, setting{file: "cpu.cfs_quota_us", value: itoa(*c.Quota)})
	}
	if c.Burst != nil {
		set = append(set, setting{file: "cpu.cfs_burst_us", value: utoa(*c.Burst)})
	}
	if asked(c.RealtimePeriod) {
		set = append(set, setting{file: "cpu.rt_period_us", value: utoa(*c.RealtimePeriod), pair: asked(c.RealtimeRuntime)})
	}
	if asked(c.RealtimeRuntime) {
		set = append(set, setting{file: "cpu.rt_runtime_us", value: itoa(*c.RealtimeRuntime)})
	}
	if c.Idle != nil {
		set = append(set, setting{file: "cpu.idle", value: itoa(*c.Idle)})
	}
	return set, nil
}

func cpuV2(r *specs.LinuxResources) (set []setting, err error) {
	c := r.CPU
	if c == nil {
		return nil, nil
	}
	if asked(c.RealtimePeriod) || asked(c.RealtimeRuntime) {
		return nil, errdefs.Invalidf("control groups version 2 have no realtime limits")
	}
	if c.Idle != nil {
		set = append(set, setting{file: "cpu.idle", value: itoa(*c.Idle)})
	}
	if asked(c.Shares) && (c.Idle == nil || *c.Idle != 1) { // an idle group has no weight
		set = append(set, setting{file: "cpu.weight", value: utoa(WeightOfShares(*c.Shares))})
	}
	if asked(c.Quota) || asked(c.Period) {
		v := "max"
		if c.Quota != nil && *c.Quota > 0 {
			v = itoa(*c.Quota)
		}
		if asked(c.Period) {
			v += " " + utoa(*c.Period)
		} else {
			v += " 100000"
		}
		set = append(set, setting{file: "cpu.max", value: v})
	}
	if c.Burst != nil {
		set = append(set, setting{file: "cpu.max.burst", value: utoa(*c.Burst)})
	}
	return set, nil
}

// WeightOfShares translates cpu.shares (2…262144, default 1024) to cpu.weight
// (1…10000, default 100): a curve through minimum, default and maximum.
//
// Source: the quadratic mapping of crun and of runc from 1.3 on; the older
// linear one gave a default container a weight of 39 against others' 100.
func WeightOfShares(shares uint64) uint64 {
	switch {
	case shares == 0:
		return 0
	case shares <= 2:
		return 1
	case shares >= 262144:
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

func cpuset(r *specs.LinuxResources) (set []setting, err error) {
	if r.CPU == nil {
		return nil, nil
	}
	if r.CPU.Cpus != "" {
		set = append(set, setting{file: "cpuset.cpus", value: r.CPU.Cpus})
	}
	if r.CPU.Mems != "" {
		set = append(set, setting{file: "cpuset.mems", value: r.CPU.Mems})
	}
	return set, nil
}

// pidsV1: 0 is a limit like any other (runtime-spec 1.3). What joins a group is
// not refused, but can make no other process.
func pidsV1(r *specs.LinuxResources) ([]setting, error) { return pidsMax(r, 0) }

// pidsV2: processes are made in the group (CLONE_INTO_CGROUP), so it must be allowed
// the one that it has then.
func pidsV2(r *specs.LinuxResources) ([]setting, error) { return pidsMax(r, 1) }

func pidsMax(r *specs.LinuxResources, least int64) ([]setting, error) {
	if r.Pids == nil || r.Pids.Limit == nil {
		return nil, nil
	}
	limit := *r.Pids.Limit
	if limit >= 0 {
		limit = max(limit, least)
	}
	return []setting{{file: "pids.max", value: orMax(limit)}}, nil
}

// ioDevices are the four throttles: the field, v1's file, v2's key.
func ioDevices(b *specs.LinuxBlockIO) [4]struct {
	rates    []specs.LinuxThrottleDevice
	file, v2 string
} {
	return [4]struct {
		rates    []specs.LinuxThrottleDevice
		file, v2 string
	}{
		{b.ThrottleReadBpsDevice, "blkio.throttle.read_bps_device", "rbps"},
		{b.ThrottleWriteBpsDevice, "blkio.throttle.write_bps_device", "wbps"},
		{b.ThrottleReadIOPSDevice, "blkio.throttle.read_iops_device", "riops"},
		{b.ThrottleWriteIOPSDevice, "blkio.throttle.write_iops_device", "wiops"},
	}
}

func device(d specs.LinuxBlockIODevice) string { return itoa(d.Major) + ":" + itoa(d.Minor) }

func blkioV1(r *specs.LinuxResources) (set []setting, err error) {
	b := r.BlockIO
	if b == nil {
		return nil, nil
	}
	if asked(b.Weight) {
		set = append(set, setting{file: "blkio.weight", alt: "blkio.bfq.weight", value: utoa(uint64(*b.Weight))})
	}
	if asked(b.LeafWeight) { // only the CFQ scheduler had it, until Linux 5.0
		set = append(set, setting{file: "blkio.leaf_weight", value: utoa(uint64(*b.LeafWeight)), optional: true})
	}
	for _, d := range b.WeightDevice {
		if asked(d.Weight) {
			set = append(set, setting{file: "blkio.weight_device", alt: "blkio.bfq.weight_device",
				value: device(d.LinuxBlockIODevice) + " " + utoa(uint64(*d.Weight))})
		}
	}
	for _, t := range ioDevices(b) {
		for _, d := range t.rates {
			set = append(set, setting{file: t.file, value: device(d.LinuxBlockIODevice) + " " + utoa(d.Rate)})
		}
	}
	return set, nil
}

func ioV2(r *specs.LinuxResources) (set []setting, err error) {
	b := r.BlockIO
	if b == nil {
		return nil, nil
	}
	if asked(b.Weight) {
		set = append(set, ioWeight("default", *b.Weight))
	}
	for _, d := range b.WeightDevice {
		if asked(d.Weight) {
			set = append(set, ioWeight(device(d.LinuxBlockIODevice), *d.Weight))
		}
	}
	for _, t := range ioDevices(b) {
		for _, d := range t.rates {
			rate := utoa(d.Rate)
			if d.Rate == 0 {
				rate = "max"
			}
			set = append(set, setting{file: "io.max", value: device(d.LinuxBlockIODevice) + " " + t.v2 + "=" + rate})
		}
	}
	return set, nil
}

// ioWeight sets BFQ's weight (10…1000, as OCI's) or, without BFQ, io.weight
// (1…10000), which is scaled linearly.
func ioWeight(what string, w uint16) setting {
	scaled := 1 + (uint64(max(w, 10))-10)*9999/990
	return setting{file: "io.bfq.weight", value: what + " " + utoa(uint64(w)),
		alt: "io.weight", altValue: what + " " + utoa(scaled)}
}

func hugetlbV1(r *specs.LinuxResources) ([]setting, error) {
	return hugetlb(r, "limit_in_bytes")
}

func hugetlbV2(r *specs.LinuxResources) ([]setting, error) { return hugetlb(r, "max") }

// hugetlb limits use and, where the kernel has it (5.7), reservations: a
// process is refused at mmap then instead of killed by SIGBUS.
func hugetlb(r *specs.LinuxResources, file string) (set []setting, err error) {
	for _, l := range r.HugepageLimits {
		if l.Pagesize == "" || strings.ContainsAny(l.Pagesize, "/.") {
			return nil, errdefs.Invalidf("invalid huge page size %q", l.Pagesize)
		}
		set = append(set,
			setting{file: "hugetlb." + l.Pagesize + "." + file, value: utoa(l.Limit)},
			setting{file: "hugetlb." + l.Pagesize + ".rsvd." + file, value: utoa(l.Limit), optional: true})
	}
	return set, nil
}

func rdma(r *specs.LinuxResources) (set []setting, err error) {
	for _, dev := range slices.Sorted(maps.Keys(r.Rdma)) {
		v := dev
		if n := r.Rdma[dev].HcaHandles; n != nil {
			v += " hca_handle=" + utoa(uint64(*n))
		}
		if n := r.Rdma[dev].HcaObjects; n != nil {
			v += " hca_object=" + utoa(uint64(*n))
		}
		if v != dev {
			set = append(set, setting{file: "rdma.max", value: v})
		}
	}
	return set, nil
}
