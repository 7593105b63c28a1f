package stats

import (
	"context"
	"iter"
	"math"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/proc"
	"lade/internal/network"
)

// interval is the time between two samples.
const interval = time.Second

// Host is what sampling needs of the engine.
type Host interface {
	// Find returns the container of that name, id, or unique prefix of an id.
	// Errors: NotFound, Invalid for an ambiguous prefix.
	Find(name string) (*container.Actor, error)
	// All returns every container, newest first.
	All() []*container.Actor
	// Group opens the control group of a running container. Errors: NotFound.
	Group(r *container.Record) (*cgroup.Group, error)
}

// Network counts what containers send and receive. *network.Networks does.
type Network interface {
	// Stats returns the counters of a container's devices by name. Errors:
	// NotFound for one without a network of its own.
	Stats(id string) (map[string]network.Counters, error)
	// Shaping returns the limits of a container and what they did, nil for a
	// direction without. Errors: as Stats.
	Shaping(id string) (in, out *network.Shaped, err error)
}

// Sampler reads what containers use.
type Sampler struct {
	host    Host
	network Network
}

// New returns a sampler. It needs no closing.
func New(h Host, n Network) *Sampler { return &Sampler{h, n} }

// Options is the request of ContainerStats.
type Options struct {
	Stream  bool
	OneShot bool // do not wait for a second sample
}

// ContainerStats yields samples of what a container uses: one without Stream
// (at once with OneShot, else after two samples, so that a share of processor
// time can be computed), else one a second until ctx ends or the container is
// removed. A container that does not run gives zeroes.
func (p *Sampler) ContainerStats(ctx context.Context, name string, o Options) (iter.Seq2[*Sample, error], error) {
	a, err := p.host.Find(name)
	if err != nil {
		return nil, err
	}
	return func(yield func(*Sample, error) bool) {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		var last *Sample
		for {
			s, err := p.sample(a.View())
			if err != nil {
				yield(nil, err)
				return
			}
			if last != nil {
				s.PreRead, s.PreCPUStats = last.Read, last.CPUStats
			}
			alive := a.View().State.Alive()
			if o.Stream || o.OneShot || last != nil || !alive {
				if !yield(s, nil) || !o.Stream {
					return
				}
			}
			last = s
			select {
			case <-tick.C:
			case <-a.Done():
				return
			case <-ctx.Done():
				return
			}
		}
	}, nil
}

// sample reads a container's counters.
func (p *Sampler) sample(r *container.Record) (*Sample, error) {
	s := &Sample{StatsResponse: &apicontainer.StatsResponse{ID: r.ID, Name: "/" + r.Name, OSType: "linux"}}
	if !r.State.Alive() {
		return s, nil
	}
	s.Read = time.Now().UTC()
	g, err := p.host.Group(r)
	if err != nil {
		return nil, err
	}
	c, err := g.Stats()
	if errdefs.KindOf(err) == errdefs.NotFound {
		return s, nil // it ended meanwhile
	}
	if err != nil {
		return nil, err
	}
	total, cpus, err := proc.TotalCPU()
	if err != nil {
		return nil, err
	}
	s.CPUStats = apicontainer.CPUStats{
		CPUUsage: apicontainer.CPUUsage{
			TotalUsage: c.CPU.Usage, PercpuUsage: c.CPU.PerCPU, UsageInKernelmode: c.CPU.System, UsageInUsermode: c.CPU.User,
		},
		SystemUsage: uint64(total), OnlineCPUs: uint32(cpus),
		ThrottlingData: apicontainer.ThrottlingData{Periods: c.CPU.Periods, ThrottledPeriods: c.CPU.ThrottledPeriods, ThrottledTime: c.CPU.ThrottledTime},
	}
	s.MemoryStats = apicontainer.MemoryStats{
		Usage: c.Memory.Usage, MaxUsage: c.Memory.MaxUsage, Stats: c.Memory.Stat, Failcnt: c.Memory.FailCount, Limit: c.Memory.Limit,
	}
	most, err := proc.MemTotal()
	if err != nil {
		return nil, err
	}
	if s.MemoryStats.Limit > uint64(most) {
		s.MemoryStats.Limit = uint64(most)
	}
	s.PidsStats = apicontainer.PidsStats{Current: c.Pids.Current, Limit: c.Pids.Limit}
	if s.PidsStats.Limit == math.MaxUint64 {
		s.PidsStats.Limit = 0
	}
	s.BlkioStats = blkio(c.IO)
	s.Pressure = pressure(c.Pressure)
	if s.Networks, err = p.networkStats(r); err != nil {
		return nil, err
	}
	if s.NetRates, err = p.netRates(r); err != nil {
		return nil, err
	}
	return s, nil
}

// blkio sorts block I/O counters into Docker's lists; version 2 has one list,
// which Docker shows as service bytes.
func blkio(all []cgroup.IO) apicontainer.BlkioStats {
	var s apicontainer.BlkioStats
	lists := map[string]*[]apicontainer.BlkioStatEntry{
		"io_service_bytes_recursive": &s.IoServiceBytesRecursive, "io_serviced_recursive": &s.IoServicedRecursive,
		"io_queued_recursive": &s.IoQueuedRecursive, "io_service_time_recursive": &s.IoServiceTimeRecursive,
		"io_wait_time_recursive": &s.IoWaitTimeRecursive, "io_merged_recursive": &s.IoMergedRecursive,
		"time_recursive": &s.IoTimeRecursive, "sectors_recursive": &s.SectorsRecursive,
	}
	ops := map[string]string{"rbytes": "read", "wbytes": "write"}
	for _, io := range all {
		to, op := lists[io.File], io.Op
		if io.File == "io.stat" {
			if op = ops[io.Op]; op != "" {
				to = &s.IoServiceBytesRecursive
			}
		}
		if to != nil {
			*to = append(*to, apicontainer.BlkioStatEntry{Major: io.Major, Minor: io.Minor, Op: op, Value: io.Value})
		}
	}
	return s
}

func (p *Sampler) networkStats(r *container.Record) (map[string]apicontainer.NetworkStats, error) {
	owner, err := p.networkOwner(r)
	if err != nil {
		return nil, nil // it is gone, and its network with it
	}
	counters, err := p.network.Stats(owner)
	if err != nil {
		if errdefs.KindOf(err) == errdefs.NotFound { // it has none of its own, or ended
			return nil, nil
		}
		return nil, err
	}
	out := map[string]apicontainer.NetworkStats{}
	for name, c := range counters {
		out[name] = apicontainer.NetworkStats{
			RxBytes: c.RxBytes, RxPackets: c.RxPackets, RxErrors: c.RxErrors, RxDropped: c.RxDropped,
			TxBytes: c.TxBytes, TxPackets: c.TxPackets, TxErrors: c.TxErrors, TxDropped: c.TxDropped,
		}
	}
	return out, nil
}

// networkOwner returns the container whose network r is in: its own, or that of
// one that it has joined.
func (p *Sampler) networkOwner(r *container.Record) (string, error) {
	for r.HostConfig.NetworkMode.IsContainer() {
		a, err := p.host.Find(r.HostConfig.NetworkMode.ConnectedContainer())
		if err != nil {
			return "", err
		}
		r = a.View()
	}
	return r.ID, nil
}
