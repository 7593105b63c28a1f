package engine

import (
	"errors"
	"reflect"
	"testing"

	"github.com/moby/moby/api/types/blkiodev"
	apicontainer "github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

func TestMerge(t *testing.T) {
	type res = apicontainer.Resources
	rates := func(rate ...uint64) (all []*blkiodev.ThrottleDevice) {
		for i, r := range rate {
			all = append(all, &blkiodev.ThrottleDevice{Path: "/dev/" + string(rune('a'+i)), Rate: r})
		}
		return all
	}
	for _, tc := range []struct {
		what             string
		have, asked, get res
		err              string
	}{
		{what: "nothing", have: res{Memory: 5, NanoCPUs: 6}, get: res{Memory: 5, NanoCPUs: 6}},
		{
			what: "everything",
			asked: res{CPUShares: 1, CPUPeriod: 2, CPUQuota: -1, CPURealtimePeriod: 3, CPURealtimeRuntime: 4, Memory: 5, MemorySwap: 6, MemoryReservation: 7,
				CpusetCpus: "0", CpusetMems: "1", BlkioWeight: 8, PidsLimit: new(int64(9)), MemorySwappiness: new(int64(10)), OomKillDisable: new(true)},
			get: res{CPUShares: 1, CPUPeriod: 2, CPUQuota: -1, CPURealtimePeriod: 3, CPURealtimeRuntime: 4, Memory: 5, MemorySwap: 6, MemoryReservation: 7,
				CpusetCpus: "0", CpusetMems: "1", BlkioWeight: 8, PidsLimit: new(int64(9)), MemorySwappiness: new(int64(10)), OomKillDisable: new(true)},
		},
		{what: "no limit of processes", have: res{PidsLimit: new(int64(9))}, asked: res{PidsLimit: new(int64(0))}, get: res{PidsLimit: new(int64(0))}},
		{what: "no limit of processes, said otherwise", have: res{PidsLimit: new(int64(9))}, asked: res{PidsLimit: new(int64(-2))}, get: res{PidsLimit: new(int64(0))}},
		{what: "a rate anew, one more", have: res{BlkioDeviceReadBps: rates(1)}, asked: res{BlkioDeviceReadBps: rates(0, 2)}, get: res{BlkioDeviceReadBps: rates(0, 2)}},
		{what: "memory above swap", have: res{Memory: 1, MemorySwap: 2}, asked: res{Memory: 3},
			err: "Cannot update container x: Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"},
		{what: "memory without any before", asked: res{Memory: 3},
			err: "Cannot update container x: Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"},
		{what: "memory, swap without limit", have: res{MemorySwap: -1}, asked: res{Memory: 3}, get: res{Memory: 3, MemorySwap: -1}},
		{what: "cpus", have: res{CPUPeriod: 1}, asked: res{NanoCPUs: 1}, err: "Cannot update container x: Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set"},
		{what: "cpus", have: res{CPUQuota: 1}, asked: res{NanoCPUs: 1}, err: "Cannot update container x: Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set"},
		{what: "period", have: res{NanoCPUs: 1}, asked: res{CPUPeriod: 1}, err: "Cannot update container x: Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set"},
		{what: "quota", have: res{NanoCPUs: 1}, asked: res{CPUQuota: 1}, err: "Cannot update container x: Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set"},
		{what: "no quota ends cpus", have: res{NanoCPUs: 1}, asked: res{CPUQuota: -1}, get: res{CPUQuota: -1}},
		{what: "cpus end no quota", have: res{CPUQuota: -1}, asked: res{NanoCPUs: 1}, get: res{NanoCPUs: 1}},
	} {
		t.Run(tc.what, func(t *testing.T) {
			hc := apicontainer.HostConfig{Resources: tc.have}
			err := merge("x", &hc, apicontainer.UpdateConfig{Resources: tc.asked})
			if tc.err != "" {
				if err == nil || err.Error() != tc.err || !errors.Is(err, errdefs.Conflict) {
					t.Errorf("%v, want %q", err, tc.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(hc.Resources, tc.get) {
				t.Errorf("%+v, %v\nwant %+v", hc.Resources, err, tc.get)
			}
		})
	}
	hc := apicontainer.HostConfig{AutoRemove: true}
	err := merge("x", &hc, apicontainer.UpdateConfig{RestartPolicy: apicontainer.RestartPolicy{Name: "always"}})
	if err == nil || err.Error() != "Cannot update container x: Restart policy cannot be updated because AutoRemove is enabled for the container" {
		t.Errorf("a restart policy for a container that removes itself: %v", err)
	}
}
