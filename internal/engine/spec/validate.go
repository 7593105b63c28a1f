package spec

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

// minMemory is the least that a container can start in, in bytes.
const minMemory = 6 << 20

// Validate checks a request to create a container or to change its limits, in
// Docker's words. What this host cannot do but a container can live without is
// discarded from hc with a warning. Capabilities are brought into their
// canonical form. c may be nil. Errors: Invalid.
func Validate(c *container.Config, hc *container.HostConfig, f Facts) (warnings []string, err error) {
	v := &validator{facts: f, r: &hc.Resources}
	for _, check := range []func() error{v.memory, v.cpu, v.cpuset, v.io} {
		if err := check(); err != nil {
			return v.warnings, err
		}
	}
	if err := v.host(hc); err != nil {
		return v.warnings, err
	}
	if err := v.group(hc); err != nil {
		return v.warnings, err
	}
	if c != nil {
		for _, kv := range c.Env {
			if kv == "" || kv[0] == '=' {
				return v.warnings, errdefs.Invalidf("invalid environment variable: %s", kv)
			}
		}
	}
	if c != nil && c.WorkingDir != "" && !path.IsAbs(c.WorkingDir) {
		return v.warnings, errdefs.Invalidf("the working directory '%s' is invalid, it needs to be an absolute path", c.WorkingDir)
	}
	return v.warnings, nil
}

// ValidateUpdate checks what an update asks for, by itself: as Docker does, it
// is told of nothing but that. What the container has beside it is checked by
// Validate once the two are merged. Errors: Invalid.
func ValidateUpdate(r *container.Resources, f Facts) (warnings []string, err error) {
	v := &validator{facts: f, r: r, update: true}
	for _, check := range []func() error{v.memory, v.cpu, v.cpuset, v.io} {
		if err := check(); err != nil {
			return v.warnings, err
		}
	}
	return v.warnings, nil
}

type validator struct {
	facts    Facts
	r        *container.Resources
	update   bool // r is a part of what the container is going to have
	warnings []string
}

func (v *validator) warn(s string) { v.warnings = append(v.warnings, s) }

func (v *validator) memory() error {
	r, f := v.r, v.facts.Limits
	if r.MemorySwappiness != nil && *r.MemorySwappiness == -1 {
		r.MemorySwappiness = nil // what old clients send for "not set"
	}
	if r.Memory != 0 && r.Memory < minMemory {
		return errdefs.Invalidf("Minimum memory limit allowed is 6MB")
	}
	if r.Memory > 0 && !f.Memory {
		v.warn("Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.Memory, r.MemorySwap = 0, -1
	}
	if r.Memory > 0 && r.MemorySwap != -1 && !f.Swap {
		v.warn("Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.")
		r.MemorySwap = -1
	}
	if r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory {
		return errdefs.Invalidf("Minimum memoryswap limit should be larger than memory limit, see usage")
	}
	if r.Memory == 0 && r.MemorySwap > 0 && !v.update {
		return errdefs.Invalidf("You should always set the Memory limit when using Memoryswap limit, see usage")
	}
	if s := r.MemorySwappiness; s != nil && !f.Swappiness {
		v.warn("Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.")
		r.MemorySwappiness = nil
	} else if s != nil && (*s < 0 || *s > 100) {
		return errdefs.Invalidf("Invalid value: %v, valid memory swappiness range is 0-100", *s)
	}
	if r.MemoryReservation > 0 && !f.Reservation {
		v.warn("Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.MemoryReservation = 0
	}
	if r.MemoryReservation != 0 && r.MemoryReservation < minMemory {
		return errdefs.Invalidf("Minimum memory reservation allowed is 6MB")
	}
	if r.Memory > 0 && r.MemoryReservation > 0 && r.Memory < r.MemoryReservation {
		return errdefs.Invalidf("Minimum memory limit can not be less than memory reservation limit, see usage")
	}
	if o := r.OomKillDisable; o != nil && !f.OOMDisable {
		if *o {
			v.warn("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
		}
		r.OomKillDisable = nil
	} else if o != nil && *o && r.Memory == 0 && !v.update {
		v.warn("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.")
	}
	if r.PidsLimit != nil && !f.Pids {
		if *r.PidsLimit > 0 {
			v.warn("Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.")
		}
		r.PidsLimit = nil
	}
	return nil
}

func (v *validator) cpu() error {
	r, f := v.r, v.facts.Limits
	if r.NanoCPUs > 0 && r.CPUPeriod > 0 {
		return errdefs.Invalidf("Conflicting options: Nano CPUs and CPU Period cannot both be set")
	}
	if r.NanoCPUs > 0 && r.CPUQuota > 0 {
		return errdefs.Invalidf("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
	}
	if r.NanoCPUs > 0 && !f.CPUQuota {
		return errdefs.Invalidf("NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted")
	}
	// The kernel takes no quota below a millisecond, here of each 100.
	if n := v.facts.CPUs; r.NanoCPUs < 0 || r.NanoCPUs > int64(n)*1e9 || r.NanoCPUs > 0 && r.NanoCPUs < 1e7 {
		return errdefs.Invalidf("range of CPUs is from 0.01 to %[1]d.00, as there are only %[1]d CPUs available", n)
	}
	if r.CPUShares < 0 {
		return errdefs.Invalidf("invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	}
	if r.CPUShares > 0 && !f.CPUShares {
		v.warn("Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.")
		r.CPUShares = 0
	}
	if (r.CPUPeriod != 0 || r.CPUQuota != 0) && !f.CPUQuota {
		v.warn("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.")
		r.CPUPeriod, r.CPUQuota = 0, 0
	}
	if r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1000000) {
		return errdefs.Invalidf("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	}
	if r.CPUQuota > 0 && r.CPUQuota < 1000 {
		return errdefs.Invalidf("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	}
	if (r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0) && !f.CPURealtime {
		return errdefs.Invalidf("kernel does not support CPU real-time scheduler")
	}
	if r.CPURealtimePeriod != 0 && r.CPURealtimeRuntime > r.CPURealtimePeriod {
		return errdefs.Invalidf("cpu real-time runtime cannot be higher than cpu real-time period")
	}
	if r.CPUPercent > 0 {
		v.warn("linux does not support CPU percent. Percent discarded.")
		r.CPUPercent = 0
	}
	return nil
}

func (v *validator) cpuset() error {
	r := v.r
	if (r.CpusetCpus != "" || r.CpusetMems != "") && !v.facts.Limits.Cpuset {
		v.warn("Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.")
		r.CpusetCpus, r.CpusetMems = "", ""
	}
	for _, s := range []struct{ what, plural, asked, have string }{
		{"cpus", "CPUs", r.CpusetCpus, v.facts.CPUSet}, {"mems", "memory nodes", r.CpusetMems, v.facts.MemSet},
	} {
		if s.asked == "" {
			continue
		}
		want, err := parseSet(s.asked)
		if err != nil {
			return errdefs.Invalidf("Invalid value %s for cpuset %s: %w", s.asked, s.what, err)
		}
		if s.have == "" {
			continue
		}
		have, err := parseSet(s.have)
		if err != nil {
			return err
		}
		for n := range want {
			if !have[n] {
				return errdefs.Invalidf("Requested %s are not available - requested %s, available: %s", s.plural, s.asked, s.have)
			}
		}
	}
	return nil
}

// parseSet reads a list such as "0-2,7", as cpuset(7) has it.
func parseSet(s string) (map[int]bool, error) {
	const most = 8192 // more CPUs than Linux supports
	out := map[int]bool{}
	for part := range strings.SplitSeq(strings.TrimSpace(s), ",") {
		from, to, ranged := strings.Cut(part, "-")
		if !ranged {
			to = from
		}
		a, err1 := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || a < 0 || b < a || b >= most {
			return nil, errdefs.Invalidf("invalid format: %s", s)
		}
		for ; a <= b; a++ {
			out[a] = true
		}
	}
	return out, nil
}

func (v *validator) io() error {
	r, f := v.r, v.facts.Limits
	// "null" where a device should be.
	if slices.Contains(r.BlkioWeightDevice, nil) {
		return errdefs.Invalidf("invalid BlkioWeightDevice: a device is needed")
	}
	if r.BlkioWeight > 0 && !f.IOWeight {
		v.warn("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")
		r.BlkioWeight = 0
	}
	if r.BlkioWeight > 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000) {
		return errdefs.Invalidf("Range of blkio weight is from 10 to 1000")
	}
	if r.IOMaximumBandwidth != 0 {
		return errdefs.Invalidf("invalid option: QoS maximum bandwidth configuration is not supported on linux")
	}
	if r.IOMaximumIOps != 0 {
		return errdefs.Invalidf("invalid option: QoS maximum IOPs configuration is not supported on linux")
	}
	if len(r.BlkioWeightDevice) > 0 && !f.IOWeightDevice {
		v.warn("Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.")
		r.BlkioWeightDevice = nil
	}
	for _, t := range []struct {
		list *[]*blkiodev.ThrottleDevice
		what string
	}{
		{&r.BlkioDeviceReadBps, "BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded."},
		{&r.BlkioDeviceWriteBps, "BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write limit discarded."},
		{&r.BlkioDeviceReadIOps, "IOPS Block read limit or the cgroup is not mounted. Block I/O IOPS read limit discarded."},
		{&r.BlkioDeviceWriteIOps, "IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded."},
	} {
		if slices.Contains(*t.list, nil) {
			return errdefs.Invalidf("invalid limit of block I/O: a device is needed")
		}
		if len(*t.list) > 0 && !f.IOThrottle {
			v.warn("Your kernel does not support " + t.what)
			*t.list = nil
		}
	}
	return nil
}

func (v *validator) host(hc *container.HostConfig) error {
	f := v.facts
	switch {
	case !hc.IpcMode.Valid():
		return errdefs.Invalidf("invalid IPC mode: %v", hc.IpcMode)
	case !hc.PidMode.Valid():
		return errdefs.Invalidf("invalid PID mode: %v", hc.PidMode)
	case hc.ShmSize < 0:
		return errdefs.Invalidf("SHM size can not be less than 0")
	case !hc.UTSMode.Valid():
		return errdefs.Invalidf("invalid UTS mode: %v", hc.UTSMode)
	case hc.OomScoreAdj < -1000 || hc.OomScoreAdj > 1000:
		return errdefs.Invalidf("Invalid value %d, range for oom score adj is [-1000, 1000]", hc.OomScoreAdj)
	case !hc.CgroupnsMode.Valid():
		return errdefs.Invalidf("invalid cgroup namespace mode: %v", hc.CgroupnsMode)
	case !hc.Isolation.IsDefault(): // Linux has no other
		return errdefs.Invalidf("invalid isolation '%s' on linux", hc.Isolation)
	}
	if hc.NetworkMode.IsHost() && len(hc.PortBindings) > 0 {
		v.warn("Published ports are discarded when using host network mode")
	}
	for dest, data := range hc.Tmpfs {
		if !path.IsAbs(dest) {
			return errdefs.Invalidf("invalid mount path: '%s' mount path must be absolute", dest)
		}
		if path.Clean(dest) == "/" {
			return errdefs.Invalidf("invalid specification: destination can't be '/'")
		}
		if _, err := mergeTmpfs(strings.Split(data, ",")); err != nil {
			return err
		}
	}
	var err error
	if hc.CapAdd, err = Capabilities(hc.CapAdd, f); err != nil {
		return errdefs.Invalidf("invalid CapAdd: %w", err)
	}
	if hc.CapDrop, err = Capabilities(hc.CapDrop, f); err != nil {
		return errdefs.Invalidf("invalid CapDrop: %w", err)
	}
	for _, u := range hc.Ulimits {
		if err := checkUlimit(u); err != nil {
			return err
		}
	}
	for _, r := range hc.DeviceCgroupRules {
		if _, err := parseRule(r); err != nil {
			return err
		}
	}
	for k := range hc.Annotations {
		if k == "" {
			return errdefs.Invalidf("invalid Annotations: the empty string is not permitted as an annotation key")
		}
	}
	sec, err := parseSecurity(hc, SecurityDefaults{})
	if err != nil {
		return err
	}
	v.warnings = append(v.warnings, sec.warnings(f)...)
	if _, err := ParseUser(string(hc.UsernsMode)); err != nil {
		return err
	}
	if _, err := TimeOffsets(hc.Annotations[TimeAnnotation]); err != nil {
		return err
	}
	var ns Namespaces
	if hc.NetworkMode.IsHost() {
		ns.Net = "host"
	}
	if hc.IpcMode.IsHost() {
		ns.IPC = "host"
	}
	if hc.UTSMode.IsHost() {
		ns.UTS = "host"
	}
	return checkSysctls(hc.Sysctls, ns)
}
