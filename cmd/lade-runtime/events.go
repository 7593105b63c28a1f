package main

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/sys"
)

// event is a line of events, in runc's form (types/events.go of runc).
type event struct {
	Type string `json:"type"` // stats, oom
	ID   string `json:"id"`
	Data any    `json:"data,omitempty"`
}

type amount struct {
	Limit   uint64 `json:"limit"`
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

type blkioEntry struct {
	Major uint64 `json:"major,omitempty"`
	Minor uint64 `json:"minor,omitempty"`
	Op    string `json:"op,omitempty"`
	Value uint64 `json:"value,omitempty"`
}

type cpuUsage struct {
	Total  uint64   `json:"total,omitempty"`
	PerCPU []uint64 `json:"percpu,omitempty"`
	Kernel uint64   `json:"kernel"`
	User   uint64   `json:"user"`
}

type throttling struct {
	Periods          uint64 `json:"periods,omitempty"`
	ThrottledPeriods uint64 `json:"throttledPeriods,omitempty"`
	ThrottledTime    uint64 `json:"throttledTime,omitempty"`
}

type stats struct {
	CPU struct {
		Usage      cpuUsage   `json:"usage"`
		Throttling throttling `json:"throttling"`
	} `json:"cpu"`
	Memory struct {
		Cache uint64            `json:"cache,omitempty"`
		Usage amount            `json:"usage"`
		Swap  amount            `json:"swap"`
		Raw   map[string]uint64 `json:"raw,omitempty"`
	} `json:"memory"`
	Pids struct {
		Current uint64 `json:"current,omitempty"`
		Limit   uint64 `json:"limit,omitempty"`
	} `json:"pids"`
	Blkio   map[string][]blkioEntry `json:"blkio"`
	Hugetlb map[string]amount       `json:"hugetlb"`
}

// statsOf puts a group's numbers into runc's form.
func statsOf(s *cgroup.Stats) *stats {
	out := &stats{Blkio: map[string][]blkioEntry{}, Hugetlb: map[string]amount{}}
	out.CPU.Usage = cpuUsage{s.CPU.Usage, s.CPU.PerCPU, s.CPU.System, s.CPU.User}
	out.CPU.Throttling = throttling{s.CPU.Periods, s.CPU.ThrottledPeriods, s.CPU.ThrottledTime}
	m := &s.Memory
	out.Memory.Cache, out.Memory.Raw = m.Stat["cache"], m.Stat
	out.Memory.Usage = amount{m.Limit, m.Usage, m.MaxUsage, m.FailCount}
	out.Memory.Swap = amount{Limit: m.SwapLimit, Usage: m.SwapUsage}
	out.Pids.Current, out.Pids.Limit = s.Pids.Current, s.Pids.Limit
	for _, e := range s.IO {
		key := map[string]string{
			"io_service_bytes_recursive": "ioServiceBytesRecursive", "io_serviced_recursive": "ioServicedRecursive",
			"io_queued_recursive": "ioQueueRecursive", "io_service_time_recursive": "ioServiceTimeRecursive",
			"io_wait_time_recursive": "ioWaitTimeRecursive", "io_merged_recursive": "ioMergedRecursive",
			"io.stat": "ioServiceBytesRecursive",
		}[e.File]
		if key != "" {
			out.Blkio[key] = append(out.Blkio[key], blkioEntry{e.Major, e.Minor, e.Op, e.Value})
		}
	}
	for page, h := range s.Hugetlb {
		out.Hugetlb[page] = amount{Limit: math.MaxUint64, Usage: h.Usage, Max: h.MaxUsage, Failcnt: h.FailCount}
	}
	return out
}

// events prints the container's numbers, once or again and again, and when it
// is out of memory, until it has ended.
func events(ctx context.Context, a *app, args []string) error {
	f := newFlags("events")
	interval := f.Duration("interval", 5*time.Second, "time between two lines")
	once := f.Bool("stats", false, "one line, then end")
	id, err := f.one(args)
	if err != nil {
		return err
	}
	if *interval <= 0 {
		return errdefs.Invalidf("duration interval must be greater than 0")
	}
	c, g, err := a.grouped(id)
	if err != nil {
		return err
	}
	if c.Status == specs.StateStopped {
		return errdefs.Conflictf("container with id %s is not running", id)
	}
	if *once {
		return a.tell(g, id)
	}
	fd, err := c.pidfd()
	if err != nil {
		return err
	}
	defer sys.CloseAll(fd)
	return a.follow(g, id, fd, *interval)
}

func (a *app) tell(g *cgroup.Group, id string) error {
	s, err := g.Stats()
	if err != nil {
		return err
	}
	return json.NewEncoder(a.stdout).Encode(event{"stats", id, statsOf(s)})
}

// follow prints until the process behind fd has ended.
func (a *app) follow(g *cgroup.Group, id string, fd int, interval time.Duration) error {
	oom, err := g.OOMNotify()
	if err != nil && !errors.Is(err, errdefs.Unavailable) {
		return err
	}
	defer sys.CloseAll(oom)
	kills, _ := g.OOMKills() // without a memory controller there are none
	next := time.Now().Add(interval)
	for {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(oom), Events: unix.POLLIN}}
		wait := max(0, int(time.Until(next)/time.Millisecond)+1)
		n, err := unix.Poll(p, wait)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return sys.Error("poll", "events", err)
		case p[1].Revents != 0:
			var buf [4096]byte
			_, _ = unix.Read(oom, buf[:]) // it was readable
			if now, err := g.OOMKills(); err == nil && now > kills {
				kills = now
				if err := json.NewEncoder(a.stdout).Encode(event{Type: "oom", ID: id}); err != nil {
					return err
				}
			}
		}
		if p[0].Revents != 0 {
			return nil
		}
		if n == 0 {
			next = time.Now().Add(interval)
			if err := a.tell(g, id); err != nil && !errors.Is(err, errdefs.NotFound) {
				return err
			}
		}
	}
}
