package cgroup

import (
	"path"
	"strings"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// realtime keeps two starts from giving the same time away: a group's is
// counted from what its children have.
var realtime sync.Mutex

// reserve gives the groups above rel as much real-time scheduling as those
// below them have, and the new one: a group is made without any, and the
// kernel refuses a child more than its parent has. What they have beyond that
// stays. It needs the group's parents only.
//
// Source: Documentation/scheduler/sched-rt-group.rst; it holds for version 1,
// and kernels with RT_GROUP_SCHED.
func (h *Host) reserve(rel string, r *specs.LinuxResources) error {
	m, ok := h.v1At("cpu")
	if !ok || r == nil || r.CPU == nil || r.CPU.RealtimeRuntime == nil || *r.CPU.RealtimeRuntime <= 0 {
		return nil
	}
	const usual = 1000000 // µs, of cpu.rt_period_us
	period := uint64(usual)
	if r.CPU.RealtimePeriod != nil && *r.CPU.RealtimePeriod != 0 {
		period = *r.CPU.RealtimePeriod
	}
	asked := float64(*r.CPU.RealtimeRuntime) / float64(period)
	realtime.Lock()
	defer realtime.Unlock()
	for i, c := range rel {
		if c != '/' {
			continue
		}
		dir := rel[:i]
		child, _, _ := strings.Cut(rel[i+1:], "/")
		sum := asked
		for _, name := range m.children(dir) {
			if name != child {
				_, _, share := m.realtime(path.Join(dir, name))
				sum += share
			}
		}
		have, of, share := m.realtime(dir)
		if want := uint64(sum*float64(of)) + 1; share < sum && want > have {
			if err := m.write(dir, "cpu.rt_runtime_us", utoa(want)); err != nil {
				return (&Group{h: h, path: dir}).refused(setting{m: m, file: "cpu.rt_runtime_us", value: utoa(want)}, err)
			}
		}
	}
	return nil
}

// release gives back what a group that is about to be removed has of real-time
// scheduling. The kernel counts it until it has freed the group, some milliseconds
// after it is gone, and would refuse it to the next one meanwhile. A group with
// processes that use it keeps it.
//
// Source: sched_release_group and tg_rt_schedulable of the kernel.
func (m *hierarchy) release(group string) {
	if has, err := m.read(group, "cpu.rt_runtime_us"); err == nil && has != "0" {
		_ = m.write(group, "cpu.rt_runtime_us", "0")
	}
}

// realtime is what a group has of real-time scheduling: µs in a period, the
// period, and the one by the other.
func (m *hierarchy) realtime(group string) (runtime, period uint64, share float64) {
	r, err := m.read(group, "cpu.rt_runtime_us")
	if err != nil {
		return 0, 1, 0
	}
	p, err := m.read(group, "cpu.rt_period_us")
	if period = number(p); err != nil || period == 0 {
		return 0, 1, 0
	}
	runtime = number(r)
	return runtime, period, float64(runtime) / float64(period)
}
