package engine

import (
	"context"
	"slices"

	"github.com/moby/moby/api/types/blkiodev"
	apicontainer "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container"
	"lade/internal/engine/spec"
	"lade/internal/errdefs"
	"lade/internal/linux/device"
)

// ContainerUpdate changes limits, the restart policy and published ports, of a running
// container at once; either all of it takes effect and is recorded, or nothing
// is recorded. Errors: NotFound; Invalid for a value that cannot be; Conflict
// for one that contradicts what the container has.
func (e *Engine) ContainerUpdate(ctx context.Context, name string, u UpdateConfig) (UpdateResponse, error) {
	var r UpdateResponse
	a, err := e.containers.find(name)
	if err != nil {
		return r, err
	}
	if r.Warnings, err = spec.ValidateUpdate(&u.Resources, e.Facts); err != nil {
		return r, err
	}
	if err := checkDevices(&u.Resources); err != nil {
		return r, err
	}
	if p := u.RestartPolicy; p.Name != "" {
		if err := container.CheckPolicy(p); err != nil {
			return r, err
		}
	}
	change := func(next *container.Record) error {
		if err := merge(next.ID, next.HostConfig, u.UpdateConfig); err != nil {
			return err
		}
		next.NetRates = u.Asked.Over(next.NetRates)
		if err := e.checkRates(next.HostConfig, next.NetRates); err != nil {
			return err
		}
		if err := e.changePorts(next, u.Republish); err != nil {
			return err
		}
		// The kernel would refuse what contradicts itself in words of its own.
		_, err := spec.Validate(next.Config, next.HostConfig, e.Facts)
		return err
	}
	if !u.Changes.any() {
		return r, a.Update(ctx, change)
	}
	warnings := r.Warnings
	r, err = e.amend(ctx, a, &u, change)
	r.Warnings = warnings
	return r, err
}

// checkDevices refuses a limit of what is no block device.
func checkDevices(r *apicontainer.Resources) error {
	var paths []string
	for _, w := range r.BlkioWeightDevice {
		paths = append(paths, w.Path)
	}
	for _, list := range throttles(r) {
		for _, t := range *list {
			paths = append(paths, t.Path)
		}
	}
	for _, p := range paths {
		if found, err := device.Find(p); err != nil {
			return err
		} else if len(found) != 1 || found[0].Type != "b" {
			return errdefs.Invalidf("%s is not a block device", p)
		}
	}
	return nil
}

func throttles(r *apicontainer.Resources) [4]*[]*blkiodev.ThrottleDevice {
	return [4]*[]*blkiodev.ThrottleDevice{&r.BlkioDeviceReadBps, &r.BlkioDeviceWriteBps, &r.BlkioDeviceReadIOps, &r.BlkioDeviceWriteIOps}
}

// merge changes what the request names. Errors: Conflict.
func merge(id string, hc *apicontainer.HostConfig, u apicontainer.UpdateConfig) error {
	if why := conflict(hc, &u); why != "" {
		return errdefs.Conflictf("Cannot update container %s: %s", id, why)
	}
	// No limit by the one flag ends what the other has set.
	if u.CPUQuota < 0 {
		hc.NanoCPUs = 0
	}
	if u.NanoCPUs > 0 && hc.CPUQuota < 0 {
		hc.CPUQuota = 0
	}
	for _, f := range []struct {
		to   *int64
		from int64
	}{
		{&hc.NanoCPUs, u.NanoCPUs}, {&hc.CPUShares, u.CPUShares}, {&hc.CPUPeriod, u.CPUPeriod}, {&hc.CPUQuota, u.CPUQuota},
		{&hc.CPURealtimePeriod, u.CPURealtimePeriod}, {&hc.CPURealtimeRuntime, u.CPURealtimeRuntime},
		{&hc.Memory, u.Memory}, {&hc.MemorySwap, u.MemorySwap}, {&hc.MemoryReservation, u.MemoryReservation},
	} {
		if f.from != 0 {
			*f.to = f.from
		}
	}
	if u.CpusetCpus != "" {
		hc.CpusetCpus = u.CpusetCpus
	}
	if u.CpusetMems != "" {
		hc.CpusetMems = u.CpusetMems
	}
	if u.BlkioWeight != 0 {
		hc.BlkioWeight = u.BlkioWeight
	}
	if u.MemorySwappiness != nil {
		hc.MemorySwappiness = u.MemorySwappiness
	}
	if u.OomKillDisable != nil {
		hc.OomKillDisable = u.OomKillDisable
	}
	if u.PidsLimit != nil {
		hc.PidsLimit = new(max(*u.PidsLimit, 0)) // 0: as Docker shows that there is none
	}
	mergeDevices(&hc.Resources, &u.Resources)
	if p := u.RestartPolicy; p.Name != "" {
		hc.RestartPolicy = p
	}
	return nil
}

// conflict says, in Docker's words, what of the request contradicts what the
// container has.
func conflict(hc *apicontainer.HostConfig, u *apicontainer.UpdateConfig) string {
	for _, c := range []struct {
		bad bool
		why string
	}{
		{u.NanoCPUs > 0 && hc.CPUPeriod > 0, "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set"},
		{u.NanoCPUs > 0 && hc.CPUQuota > 0, "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set"},
		{u.CPUPeriod > 0 && hc.NanoCPUs > 0, "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set"},
		{u.CPUQuota > 0 && hc.NanoCPUs > 0, "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set"},
		// No limit on swap (-1) is not smaller than any memory.
		{u.Memory > 0 && u.MemorySwap == 0 && hc.MemorySwap >= 0 && u.Memory > hc.MemorySwap,
			"Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"},
		{u.RestartPolicy.Name != "" && hc.AutoRemove && !u.RestartPolicy.IsNone(),
			"Restart policy cannot be updated because AutoRemove is enabled for the container"},
	} {
		if c.bad {
			return c.why
		}
	}
	return ""
}

// mergeDevices replaces the limits of the block devices that the request names.
// A rate of 0 is no limit; it stays in the list, as the kernel must be told.
func mergeDevices(to, from *apicontainer.Resources) {
	weights := slices.Clone(to.BlkioWeightDevice)
	for _, w := range from.BlkioWeightDevice {
		weights = append(slices.DeleteFunc(weights, func(o *blkiodev.WeightDevice) bool { return o.Path == w.Path }), w)
	}
	to.BlkioWeightDevice = weights
	have, asked := throttles(to), throttles(from)
	for i, list := range have {
		rates := slices.Clone(*list)
		for _, t := range *asked[i] {
			rates = append(slices.DeleteFunc(rates, func(o *blkiodev.ThrottleDevice) bool { return o.Path == t.Path }), t)
		}
		*list = rates
	}
}
