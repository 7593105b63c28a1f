package metrics

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container"
	"lade/internal/engine/stats"
	"lade/internal/linux/cgroup"
	"lade/internal/network"
)

var line = regexp.MustCompile(`^[a-z_]+(\{[a-z]+="([^"\\]|\\.)*"(,[a-z]+="([^"\\]|\\.)*")*\})? [-+0-9.e]+(Inf)?$`)

func TestText(t *testing.T) {
	var o Operations
	o.Observe("ContainerStart", 3*time.Millisecond, false)
	o.Observe("ContainerStart", 5*time.Millisecond, false) // a bound belongs to what is below it
	o.Observe("ContainerStart", time.Hour, true)
	record := func(name string, state container.State) *container.Record {
		return &container.Record{ID: "id-" + name, Name: name, Config: &apicontainer.Config{Image: `odd"\image` + "\n"}, State: state, RestartCount: 2, StartedAt: time.Unix(100, 5e8)}
	}
	out := string(Text([]stats.Usage{
		{Record: record("stopped", container.Exited)},
		{Record: record("sick", container.Running), Err: errors.New("input/output error")},
		{Record: record("runs", container.Running), Networks: map[string]network.Counters{"eth0": {RxBytes: 7}}, Group: &cgroup.Stats{
			CPU: cgroup.CPU{Usage: 1_500_000_000, ThrottledPeriods: 3}, Pids: cgroup.Pids{Current: 4},
			Memory:   cgroup.Memory{Usage: 1 << 20, Limit: 1<<63 - 4096, OOMKills: 1, Stat: map[string]uint64{"total_inactive_file": 1 << 10}},
			IO:       []cgroup.IO{{Major: 8, Minor: 1, File: "io_service_bytes_recursive", Op: "Read", Value: 99}, {File: "io_service_bytes_recursive", Op: "Total", Value: 99}},
			Pressure: cgroup.Pressure{CPU: &cgroup.PSI{Some: cgroup.PSILine{Total: 2_000_000}}},
		}},
	}, &o))
	const who = `id="id-runs",image="odd\"\\image\n",name="runs"`
	for _, want := range []string{
		"# TYPE container_cpu_usage_seconds_total counter",
		"container_cpu_usage_seconds_total{" + who + `,cpu="total"} 1.5`,
		"container_cpu_cfs_throttled_periods_total{" + who + "} 3",
		"container_memory_working_set_bytes{" + who + "} 1.047552e+06",
		"container_oom_events_total{" + who + "} 1",
		"container_fs_reads_bytes_total{" + who + `,device="8:1"} 99`,
		"container_pressure_cpu_waiting_seconds_total{" + who + "} 2",
		"container_network_receive_bytes_total{" + who + `,interface="eth0"} 7`,
		"container_start_time_seconds{" + who + "} 100.5",
		"lade_container_restarts_total{" + who + "} 2",
		`engine_daemon_container_states_containers{state="running"} 2`,
		"container_scrape_error 1",
		`lade_container_scrape_error{id="id-sick",name="sick"} 1`,
		`lade_operation_duration_seconds_bucket{operation="ContainerStart",le="0.0025"} 0`,
		`lade_operation_duration_seconds_bucket{operation="ContainerStart",le="0.005"} 2`,
		`lade_operation_duration_seconds_bucket{operation="ContainerStart",le="+Inf"} 3`,
		`lade_operation_duration_seconds_count{operation="ContainerStart"} 3`,
		`lade_operation_failures_total{operation="ContainerStart"} 1`,
	} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(out, "container_spec_memory_limit_bytes") || strings.Contains(out, `container_cpu_usage_seconds_total{id="id-stopped"`) {
		t.Errorf("a limit or a use that is none:\n%s", out)
	}
	// Every family is told once, in one piece.
	seen, family := map[string]bool{}, ""
	for l := range strings.Lines(out) {
		l = strings.TrimSuffix(l, "\n")
		if name, ok := strings.CutPrefix(l, "# TYPE "); ok {
			family, _, _ = strings.Cut(name, " ")
			if seen[family] {
				t.Errorf("%s is told twice", family)
			}
			seen[family] = true
		} else if !strings.HasPrefix(l, "# HELP ") && (!line.MatchString(l) || !strings.HasPrefix(l, family)) {
			t.Errorf("below %s: %q", family, l)
		}
	}
}
