package container

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"

	"lade/internal/cli/opt"
)

// confPrefix begins the annotations by which the engine is told to set files
// of a control group: any client can say the same with --annotation.
const confPrefix = "lade.cgroup-conf."

// cgroupConfFlag declares --cgroup-conf, whose pairs are kept as annotations.
func cgroupConfFlag(f *pflag.FlagSet, annotations *opt.Map) {
	f.Var(conf{annotations}, "cgroup-conf", "Set a file of the container's control group (version 2), as memory.high=100000000")
	opt.Own(f, "cgroup-conf")
}

// conf is the flag: each pair becomes an annotation.
type conf struct{ annotations *opt.Map }

// Set adds one pair.
func (c conf) Set(v string) error {
	file, value, ok := strings.Cut(v, "=")
	if !ok || file == "" || value == "" {
		return errors.New("the format is file=value, as memory.high=100000000")
	}
	return c.annotations.Set(confPrefix + file + "=" + value)
}

// String is what help shows as the default.
func (c conf) String() string {
	if c.annotations == nil {
		return fmt.Sprint(map[string]string{})
	}
	return fmt.Sprint(c.annotations.Values())
}

// Type is "map".
func (conf) Type() string { return "map" }

// deviceLimits are the limits of block devices that update can change. The API
// has them; Docker's client has no flags for them there.
type deviceLimits struct {
	weights                                *opt.Weight
	readBps, writeBps, readIOps, writeIOps *opt.Rate
	swappiness                             int64
	set                                    *pflag.FlagSet
}

func newDeviceLimits(f *pflag.FlagSet) *deviceLimits {
	d := &deviceLimits{
		weights: opt.NewWeight(), readBps: opt.NewRate(true), writeBps: opt.NewRate(true), readIOps: opt.NewRate(false), writeIOps: opt.NewRate(false), set: f,
	}
	f.Var(d.weights, "blkio-weight-device", "Block IO weight (relative device weight)")
	f.Var(d.readBps, "device-read-bps", "Limit read rate (bytes per second) from a device; 0 is no limit")
	f.Var(d.writeBps, "device-write-bps", "Limit write rate (bytes per second) to a device; 0 is no limit")
	f.Var(d.readIOps, "device-read-iops", "Limit read rate (IO per second) from a device; 0 is no limit")
	f.Var(d.writeIOps, "device-write-iops", "Limit write rate (IO per second) to a device; 0 is no limit")
	f.Int64Var(&d.swappiness, "memory-swappiness", -1, "Tune container memory swappiness (0 to 100)")
	opt.Own(f, "blkio-weight-device", "device-read-bps", "device-write-bps", "device-read-iops", "device-write-iops", "memory-swappiness")
	return d
}

func (d *deviceLimits) fill(r *container.Resources) {
	r.BlkioWeightDevice = d.weights.Values()
	r.BlkioDeviceReadBps, r.BlkioDeviceWriteBps = d.readBps.Values(), d.writeBps.Values()
	r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps = d.readIOps.Values(), d.writeIOps.Values()
	if d.set.Changed("memory-swappiness") {
		r.MemorySwappiness = &d.swappiness
	}
}
