package spec

import (
	"slices"
	"time"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
)

// Resources translates a container's limits for an update, which leaves the
// rules for devices as they are. Limits of a block device that find does not
// find any more are left out. Errors: Invalid.
func Resources(hc *container.HostConfig, f Facts, find func(string) ([]specs.LinuxDevice, error)) (*specs.LinuxResources, error) {
	there := hc.Resources
	there.BlkioWeightDevice = slices.DeleteFunc(slices.Clone(hc.BlkioWeightDevice), func(w *blkiodev.WeightDevice) bool {
		_, err := find(w.Path)
		return err != nil
	})
	for _, list := range []*[]*blkiodev.ThrottleDevice{
		&there.BlkioDeviceReadBps, &there.BlkioDeviceWriteBps, &there.BlkioDeviceReadIOps, &there.BlkioDeviceWriteIOps,
	} {
		*list = slices.DeleteFunc(slices.Clone(*list), func(t *blkiodev.ThrottleDevice) bool {
			_, err := find(t.Path)
			return err != nil
		})
	}
	changed := *hc
	changed.Resources = there
	return resources(&changed, f, find)
}

// resources translates the limits. find looks block devices up.
func resources(hc *container.HostConfig, f Facts, find func(string) ([]specs.LinuxDevice, error)) (*specs.LinuxResources, error) {
	r := &specs.LinuxResources{Memory: memory(hc, f), Unified: cgroupConf(hc.Annotations)}
	var err error
	if r.CPU, err = cpu(&hc.Resources); err != nil {
		return nil, err
	}
	if hc.PidsLimit != nil {
		limit := *hc.PidsLimit
		if limit <= 0 {
			limit = -1
		}
		r.Pids = &specs.LinuxPids{Limit: &limit}
	}
	r.BlockIO, err = blockIO(&hc.Resources, find)
	return r, err
}

func memory(hc *container.HostConfig, f Facts) *specs.LinuxMemory {
	var m specs.LinuxMemory
	if hc.Memory > 0 {
		m.Limit = new(hc.Memory)
	}
	if hc.MemoryReservation > 0 {
		m.Reservation = new(hc.MemoryReservation)
	}
	if hc.MemorySwap > 0 || hc.MemorySwap == -1 && f.Swap && hc.Memory > 0 {
		m.Swap = new(hc.MemorySwap)
	}
	if s := hc.MemorySwappiness; s != nil && *s >= 0 {
		m.Swappiness = new(uint64(*s))
	}
	if hc.OomKillDisable != nil && *hc.OomKillDisable {
		m.DisableOOMKiller = new(true)
	}
	if m == (specs.LinuxMemory{}) {
		return nil
	}
	return &m
}

func cpu(r *container.Resources) (*specs.LinuxCPU, error) {
	var c specs.LinuxCPU
	if r.CPUShares < 0 {
		return nil, errdefs.Invalidf("invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	}
	if r.CPUShares > 0 {
		c.Shares = new(uint64(r.CPUShares))
	}
	c.Cpus, c.Mems = r.CpusetCpus, r.CpusetMems
	if r.NanoCPUs > 0 { // a quota of -1 beside it, which Validate lets pass, lifts nothing
		period := uint64(100 * time.Millisecond / time.Microsecond)
		c.Period = &period
		c.Quota = new(r.NanoCPUs * int64(period) / 1e9)
	} else {
		if r.CPUPeriod != 0 {
			c.Period = new(uint64(r.CPUPeriod))
		}
		if r.CPUQuota != 0 {
			c.Quota = new(r.CPUQuota)
		}
	}
	if r.CPURealtimePeriod != 0 {
		c.RealtimePeriod = new(uint64(r.CPURealtimePeriod))
	}
	if r.CPURealtimeRuntime != 0 {
		c.RealtimeRuntime = new(r.CPURealtimeRuntime)
	}
	if c == (specs.LinuxCPU{}) {
		return nil, nil
	}
	return &c, nil
}

func blockIO(r *container.Resources, find func(string) ([]specs.LinuxDevice, error)) (*specs.LinuxBlockIO, error) {
	b := &specs.LinuxBlockIO{}
	used := false
	if r.BlkioWeight != 0 {
		b.Weight, used = new(r.BlkioWeight), true
	}
	lookUp := func(path string) (d specs.LinuxBlockIODevice, err error) {
		found, err := find(path)
		if err != nil {
			return d, err
		}
		if len(found) != 1 || found[0].Type != "b" {
			return d, errdefs.Invalidf("%s is not a block device", path)
		}
		return specs.LinuxBlockIODevice{Major: found[0].Major, Minor: found[0].Minor}, nil
	}
	for _, w := range r.BlkioWeightDevice {
		d, err := lookUp(w.Path)
		if err != nil {
			return nil, err
		}
		b.WeightDevice, used = append(b.WeightDevice, specs.LinuxWeightDevice{LinuxBlockIODevice: d, Weight: new(w.Weight)}), true
	}
	for _, t := range []struct {
		from []*blkiodev.ThrottleDevice
		to   *[]specs.LinuxThrottleDevice
	}{
		{r.BlkioDeviceReadBps, &b.ThrottleReadBpsDevice}, {r.BlkioDeviceWriteBps, &b.ThrottleWriteBpsDevice},
		{r.BlkioDeviceReadIOps, &b.ThrottleReadIOPSDevice}, {r.BlkioDeviceWriteIOps, &b.ThrottleWriteIOPSDevice},
	} {
		for _, limit := range t.from {
			d, err := lookUp(limit.Path)
			if err != nil {
				return nil, err
			}
			*t.to, used = append(*t.to, specs.LinuxThrottleDevice{LinuxBlockIODevice: d, Rate: limit.Rate}), true
		}
	}
	if !used {
		return nil, nil
	}
	return b, nil
}
