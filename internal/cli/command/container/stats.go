package container

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/format"
)

const (
	statsRefresh = 500 * time.Millisecond // how often the table is drawn
	statsStale   = 2 * time.Second        // without news for so long, figures are "--"
)

type stats struct {
	env            *app.Env
	api            *moby.Client
	stream, all    bool
	mu             sync.Mutex
	seen           []*statsOf
	first, collect sync.WaitGroup // the first figures; the collectors
}

// statsOf is what is known of one container.
type statsOf struct {
	name string // as given
	stop context.CancelFunc

	mu   sync.Mutex
	last *container.StatsResponse
	err  error // why the figures do not count
}

func buildStats(e *app.Env, f *pflag.FlagSet) app.Run {
	s := &stats{env: e}
	f.BoolVarP(&s.all, "all", "a", false, "Show all containers (default shows just running)")
	once := f.Bool("no-stream", false, "Disable streaming stats and only pull the first result")
	full := f.Bool("no-trunc", false, "Do not truncate output")
	layout := f.String("format", "", app.TableFormat)
	return func(ctx context.Context, args []string) error {
		var err error
		if s.api, err = e.API(); err != nil {
			return err
		}
		s.stream = !*once
		ctx, cancel := context.WithCancel(ctx)
		defer s.collect.Wait()
		defer cancel()
		gone, err := s.begin(ctx, args)
		if err != nil {
			return err
		}
		show := cmp.Or(*layout, e.Config().Format("statsFormat"), format.Table)
		if show == format.Table {
			show = "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"
		}
		return s.draw(ctx, show, !*full, len(args) > 0, gone)
	}
}

// begin starts a collector for each container and waits for the first figures.
// gone delivers why the engine's events ended.
func (s *stats) begin(ctx context.Context, names []string) (gone <-chan error, err error) {
	if len(names) > 0 {
		for _, n := range names {
			s.add(ctx, n)
		}
		s.first.Wait()
		var errs []error
		for _, c := range s.seen {
			errs = append(errs, c.failure())
		}
		return nil, errors.Join(errs...)
	}
	// Subscribe before listing, so that no container is missed between.
	f := moby.Filters{}
	f.Add("type", string(events.ContainerEventType))
	ev := s.api.Events(ctx, moby.EventsListOptions{Filters: f})
	res, err := s.api.ContainerList(ctx, moby.ContainerListOptions{All: s.all})
	if err != nil {
		return nil, err
	}
	for i := range res.Items {
		s.add(ctx, format.ShortID(res.Items[i].ID))
	}
	ended := make(chan error, 1)
	s.collect.Go(func() {
		for {
			select {
			case m := <-ev.Messages:
				s.event(ctx, m)
			case err := <-ev.Err:
				ended <- err
				return
			}
		}
	})
	s.first.Wait()
	return ended, nil
}

func (s *stats) event(ctx context.Context, m events.Message) {
	id := format.ShortID(m.Actor.ID)
	switch {
	case m.Action == events.ActionStart, m.Action == events.ActionCreate && s.all:
		s.add(ctx, id)
	case m.Action == events.ActionDie && !s.all:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen = slices.DeleteFunc(s.seen, func(c *statsOf) bool {
			if c.name == id {
				c.stop()
				return true
			}
			return false
		})
	}
}

func (s *stats) add(ctx context.Context, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.seen, func(c *statsOf) bool { return c.name == name }) {
		return
	}
	ctx, stop := context.WithCancel(ctx)
	c := &statsOf{name: name, stop: stop}
	s.seen = append(s.seen, c)
	s.first.Add(1)
	s.collect.Go(func() {
		ready := sync.OnceFunc(s.first.Done)
		defer ready()
		defer stop()
		c.follow(ctx, s.api, s.stream, ready)
	})
}

// follow reads a container's figures until ctx or the stream ends.
func (c *statsOf) follow(ctx context.Context, api *moby.Client, stream bool, ready func()) {
	res, err := api.ContainerStats(ctx, c.name, moby.ContainerStatsOptions{Stream: stream, IncludePreviousSample: true})
	if err != nil {
		c.set(nil, err)
		return
	}
	defer res.Body.Close()
	got := make(chan *container.StatsResponse)
	ended := make(chan error, 1)
	go func() {
		d := json.NewDecoder(res.Body)
		for {
			v := &container.StatsResponse{}
			if err := d.Decode(v); err != nil {
				ended <- err
				return
			}
			select {
			case got <- v:
			case <-ctx.Done():
				return
			}
		}
	}()
	stale := time.NewTimer(statsStale)
	defer stale.Stop()
	for {
		select {
		case v := <-got:
			c.set(v, nil)
			ready()
			if !stream {
				return
			}
			stale.Reset(statsStale)
		case <-stale.C:
			c.set(nil, errors.New("timeout waiting for stats"))
			ready()
			if !stream {
				return
			}
		case err := <-ended:
			c.set(nil, err)
			return
		case <-ctx.Done():
			return
		}
	}
}

func (c *statsOf) set(v *container.StatsResponse, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	if v != nil {
		c.last = v
	}
}

func (c *statsOf) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(c.err, io.EOF) {
		return nil
	}
	return c.err
}

func (s *stats) draw(ctx context.Context, show string, short, named bool, gone <-chan error) error {
	header := format.Header{
		format.Kind: "container.statsContext",
		"Container": "CONTAINER", "Name": "NAME", "ID": "CONTAINER ID", "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT",
		"MemPerc": "MEM %", "NetIO": "NET I/O", "BlockIO": "BLOCK I/O", "PIDs": "PIDS",
	}
	tick := time.NewTicker(statsRefresh)
	defer tick.Stop()
	for {
		s.mu.Lock()
		seen := slices.Clone(s.seen)
		s.mu.Unlock()
		rows := make([]format.Row, 0, len(seen))
		for _, c := range seen {
			rows = append(rows, c.row(short))
		}
		var b bytes.Buffer
		if err := format.Write(&b, show, header, rows); err != nil {
			return err
		}
		text := b.String()
		if s.stream {
			// Home, every line cleared to its end, the rest of the screen cleared.
			text = "\x1b[H" + strings.ReplaceAll(text, "\n", " \x1b[K\n") + "\x1b[J"
		}
		if _, err := io.WriteString(s.env.Out, text); err != nil {
			return err
		}
		if !s.stream || named && len(seen) == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case err := <-gone:
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
				return nil // the engine was stopped
			}
			return err
		}
	}
}

func (c *statsOf) row(short bool) format.Row {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := format.Row{"Container": c.name, "Name": "--", "ID": "", "CPUPerc": "--", "MemUsage": "-- / --", "MemPerc": "--", "NetIO": "--", "BlockIO": "--", "PIDs": "--"}
	v := c.last
	if v == nil {
		return r
	}
	r["ID"] = v.ID
	if short {
		r["ID"] = format.ShortID(v.ID)
	}
	if n := strings.TrimPrefix(v.Name, "/"); n != "" {
		r["Name"] = n
	}
	if c.err != nil {
		return r
	}
	mem, limit := memoryUsed(&v.MemoryStats), v.MemoryStats.Limit
	share := 0.0
	if limit != 0 {
		share = mem / float64(limit) * 100
	}
	var rx, tx, read, written uint64
	for _, n := range v.Networks {
		rx += n.RxBytes
		tx += n.TxBytes
	}
	for _, b := range v.BlkioStats.IoServiceBytesRecursive {
		switch strings.ToLower(b.Op) {
		case "read":
			read += b.Value
		case "write":
			written += b.Value
		}
	}
	pair := func(a, b uint64) string {
		return units.HumanSizeWithPrecision(float64(a), 3) + " / " + units.HumanSizeWithPrecision(float64(b), 3)
	}
	r["CPUPerc"] = fmt.Sprintf("%.2f%%", cpuShare(v))
	r["MemUsage"] = units.BytesSize(mem) + " / " + units.BytesSize(float64(limit))
	r["MemPerc"] = fmt.Sprintf("%.2f%%", share)
	r["NetIO"] = pair(rx, tx)
	r["BlockIO"] = pair(read, written)
	r["PIDs"] = strconv.FormatUint(v.PidsStats.Current, 10)
	return r
}

// memoryUsed leaves out the page cache that the kernel would give up first:
// total_inactive_file on cgroup v1, inactive_file on v2.
func memoryUsed(m *container.MemoryStats) float64 {
	for _, k := range []string{"total_inactive_file", "inactive_file"} {
		if v, ok := m.Stats[k]; ok && v < m.Usage {
			return float64(m.Usage - v)
		}
	}
	return float64(m.Usage)
}

// cpuShare is the time used since the previous sample, one processor being 100.
func cpuShare(v *container.StatsResponse) float64 {
	used := float64(v.CPUStats.CPUUsage.TotalUsage) - float64(v.PreCPUStats.CPUUsage.TotalUsage)
	system := float64(v.CPUStats.SystemUsage) - float64(v.PreCPUStats.SystemUsage)
	cpus := float64(v.CPUStats.OnlineCPUs)
	if cpus == 0 {
		cpus = float64(len(v.CPUStats.CPUUsage.PercpuUsage))
	}
	if system <= 0 || used <= 0 {
		return 0
	}
	return used / system * cpus * 100
}
