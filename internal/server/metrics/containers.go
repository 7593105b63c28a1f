package metrics

import (
	"bytes"
	"maps"
	"math"
	"slices"
	"strconv"

	"lade/internal/engine/container"
	"lade/internal/engine/stats"
	"lade/internal/linux/cgroup"
)

// usage collects the families of containers.
type usage struct {
	list []*family
	at   map[string]*family
}

// add adds a sample to a family, which the first one makes.
func (u *usage) add(name, kind, help string, value float64, labels ...string) {
	f := u.at[name]
	if f == nil {
		f = &family{name: name, kind: kind, help: help}
		u.at[name] = f
		u.list = append(u.list, f)
	}
	f.add(value, labels...)
}

// Text returns the metrics of all containers and of the operations.
func Text(containers []stats.Usage, o *Operations) []byte {
	u := &usage{at: map[string]*family{}}
	u.states(containers)
	u.unreadable(containers)
	for _, c := range containers {
		r := c.Record
		who := []string{"id", r.ID, "image", r.Config.Image, "name", r.Name}
		with := func(more ...string) []string { return slices.Concat(who, more) }
		u.add("lade_container_restarts_total", counter, "Restarts by the restart policy.", float64(r.RestartCount), who...)
		if r.Health != nil {
			u.add("lade_container_healthy", gauge, "1 where the health check says so.", truth(string(r.Health.Status) == "healthy"), who...)
		}
		if c.Group == nil {
			continue
		}
		u.add("container_start_time_seconds", gauge, "When the container was started, in seconds since 1970.", float64(r.StartedAt.UnixNano())/1e9, who...)
		u.processor(c.Group, with)
		u.memory(c.Group, with)
		u.add("container_threads", gauge, "Threads of the container.", float64(c.Group.Pids.Current), who...)
		if c.Group.Pids.Limit > 0 {
			u.add("container_threads_max", gauge, "Threads that the container may have.", float64(c.Group.Pids.Limit), who...)
		}
		u.blocks(c.Group.IO, with)
		u.pressure("cpu", c.Group.Pressure.CPU, with)
		u.pressure("memory", c.Group.Pressure.Memory, with)
		u.pressure("io", c.Group.Pressure.IO, with)
		for _, name := range slices.Sorted(maps.Keys(c.Networks)) {
			n, on := c.Networks[name], with("interface", name)
			u.add("container_network_receive_bytes_total", counter, "Bytes received.", float64(n.RxBytes), on...)
			u.add("container_network_receive_packets_total", counter, "Packets received.", float64(n.RxPackets), on...)
			u.add("container_network_receive_packets_dropped_total", counter, "Packets to the container that were dropped.", float64(n.RxDropped), on...)
			u.add("container_network_receive_errors_total", counter, "Errors when receiving.", float64(n.RxErrors), on...)
			u.add("container_network_transmit_bytes_total", counter, "Bytes sent.", float64(n.TxBytes), on...)
			u.add("container_network_transmit_packets_total", counter, "Packets sent.", float64(n.TxPackets), on...)
			u.add("container_network_transmit_packets_dropped_total", counter, "Packets of the container that were dropped.", float64(n.TxDropped), on...)
			u.add("container_network_transmit_errors_total", counter, "Errors when sending.", float64(n.TxErrors), on...)
		}
	}
	var b bytes.Buffer
	for _, f := range u.list {
		f.write(&b)
	}
	o.write(&b)
	return b.Bytes()
}

func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func (u *usage) states(containers []stats.Usage) {
	count := map[string]int{"running": 0, "paused": 0, "stopped": 0}
	for _, c := range containers {
		switch {
		case c.Record.State == container.Paused:
			count["paused"]++
		case c.Record.State.Alive():
			count["running"]++
		default:
			count["stopped"]++
		}
	}
	for _, state := range slices.Sorted(maps.Keys(count)) {
		u.add("engine_daemon_container_states_containers", gauge, "Containers in a state.", float64(count[state]), "state", state)
	}
}

// unreadable says whether numbers are missing: cAdvisor's word for the whole,
// and which containers lack some.
func (u *usage) unreadable(containers []stats.Usage) {
	failed := false
	for _, c := range containers {
		if c.Err != nil {
			failed = true
			u.add("lade_container_scrape_error", gauge, "1 where numbers of a container could not be read.", 1, "id", c.Record.ID, "name", c.Record.Name)
		}
	}
	u.add("container_scrape_error", gauge, "1 if numbers of any container could not be read.", truth(failed))
}

func (u *usage) processor(g *cgroup.Stats, with func(...string) []string) {
	const help = "Processor time used"
	u.add("container_cpu_usage_seconds_total", counter, help+".", float64(g.CPU.Usage)/1e9, with("cpu", "total")...)
	u.add("container_cpu_user_seconds_total", counter, help+" outside of the kernel.", float64(g.CPU.User)/1e9, with()...)
	u.add("container_cpu_system_seconds_total", counter, help+" in the kernel.", float64(g.CPU.System)/1e9, with()...)
	u.add("container_cpu_cfs_periods_total", counter, "Periods in which a limit was enforced.", float64(g.CPU.Periods), with()...)
	u.add("container_cpu_cfs_throttled_periods_total", counter, "Periods in which the container had to wait.", float64(g.CPU.ThrottledPeriods), with()...)
	u.add("container_cpu_cfs_throttled_seconds_total", counter, "How long it had to wait.", float64(g.CPU.ThrottledTime)/1e9, with()...)
}

func (u *usage) memory(g *cgroup.Stats, with func(...string) []string) {
	m := g.Memory
	u.add("container_memory_usage_bytes", gauge, "Memory in use, with caches.", float64(m.Usage), with()...)
	idle := m.Stat["total_inactive_file"]
	if idle == 0 {
		idle = m.Stat["inactive_file"] // version 2
	}
	u.add("container_memory_working_set_bytes", gauge, "Memory in use without caches that are idle.", float64(m.Usage-min(idle, m.Usage)), with()...)
	u.add("container_memory_swap", gauge, "Swap in use; on version 1 memory and swap.", float64(m.SwapUsage), with()...)
	u.add("container_memory_failcnt", counter, "How often the limit was reached; on version 2 how often memory was out.", float64(m.FailCount), with()...)
	u.add("container_oom_events_total", counter, "Processes killed because memory was out.", float64(m.OOMKills), with()...)
	if m.MaxUsage > 0 {
		u.add("container_memory_max_usage_bytes", gauge, "The most that was in use.", float64(m.MaxUsage), with()...)
	}
	// Version 1 says the most that it can count, rounded to pages, for "none".
	if m.Limit < math.MaxInt64&^(1<<16-1) {
		u.add("container_spec_memory_limit_bytes", gauge, "The limit of memory.", float64(m.Limit), with()...)
	}
}

// blocks tells the bytes of every device. Version 1 has them in capital words
// and a sum beside, version 2 in its own.
func (u *usage) blocks(all []cgroup.IO, with func(...string) []string) {
	for _, io := range all {
		device := with("device", strconv.FormatUint(io.Major, 10)+":"+strconv.FormatUint(io.Minor, 10))
		switch io.File + " " + io.Op {
		case "io_service_bytes_recursive Read", "io.stat rbytes":
			u.add("container_fs_reads_bytes_total", counter, "Bytes read.", float64(io.Value), device...)
		case "io_service_bytes_recursive Write", "io.stat wbytes":
			u.add("container_fs_writes_bytes_total", counter, "Bytes written.", float64(io.Value), device...)
		case "io_serviced_recursive Read", "io.stat rios":
			u.add("container_fs_reads_total", counter, "Requests to read.", float64(io.Value), device...)
		case "io_serviced_recursive Write", "io.stat wios":
			u.add("container_fs_writes_total", counter, "Requests to write.", float64(io.Value), device...)
		}
	}
}

// pressure tells how long some and all processes have waited.
func (u *usage) pressure(of string, p *cgroup.PSI, with func(...string) []string) {
	if p == nil {
		return
	}
	u.add("container_pressure_"+of+"_waiting_seconds_total", counter, "How long some process has waited.", float64(p.Some.Total)/1e6, with()...)
	u.add("container_pressure_"+of+"_stalled_seconds_total", counter, "How long all processes have waited.", float64(p.Full.Total)/1e6, with()...)
}
