package stats

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"

	"lade/internal/engine/container"
	"lade/internal/linux/cgroup"
	"lade/internal/network"
)

// engine has one container, which does not run. The sampler asks for nothing
// else, so nothing else is there.
type engine struct {
	container.Host
	actor *container.Actor
}

func (e engine) Find(string) (*container.Actor, error) { return e.actor, nil }
func (e engine) All() []*container.Actor               { return []*container.Actor{e.actor} }
func (e engine) Group(*container.Record) (*cgroup.Group, error) {
	return nil, errors.New("it does not run")
}
func (e engine) Stats(string) (map[string]network.Counters, error) {
	return nil, errors.New("it does not run")
}

func (e engine) Shaping(string) (in, out *network.Shaped, err error) {
	return nil, nil, errors.New("it does not run")
}

// TestStopped checks that a container which does not run gives zeroes: one
// sample when asked for one, and one after another until the reader leaves.
func TestStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	e := engine{actor: container.New(ctx, container.Record{ID: "0123", Name: "one", State: container.Exited}, engine{}, slog.New(slog.DiscardHandler))}
	p := New(e, e)
	for _, o := range []Options{{}, {OneShot: true}} {
		samples, err := p.ContainerStats(ctx, "one", o)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for s, err := range samples {
			n++
			if err != nil || s.ID != "0123" || s.Name != "/one" || s.CPUStats.CPUUsage.TotalUsage != 0 || !s.Read.IsZero() {
				t.Errorf("a sample of a container that does not run: %+v, %v", s, err)
			}
		}
		if n != 1 {
			t.Errorf("%+v: %d samples", o, n)
		}
	}
	if all, err := p.ContainersUsage(ctx); err != nil || len(all) != 1 || all[0].Record.ID != "0123" || all[0].Group != nil || all[0].Networks != nil {
		t.Errorf("usage of all: %+v, %v", all, err)
	}
	// A container that cannot be read is in the list, with the reason.
	bad := engine{actor: container.New(ctx, container.Record{ID: "4567", Name: "bad", State: container.Running}, engine{}, slog.New(slog.DiscardHandler))}
	if all, err := New(bad, bad).ContainersUsage(ctx); err != nil || len(all) != 1 || all[0].Err == nil || all[0].Group != nil {
		t.Errorf("usage of one that cannot be read: %+v, %v", all, err)
	}
	stream, done := context.WithCancel(ctx)
	defer done()
	samples, err := p.ContainerStats(stream, "one", Options{Stream: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range samples {
		if err != nil {
			t.Errorf("a sample: %v", err)
		}
		done()
	}
}

// TestBlkio checks that both versions' counters find their lists.
func TestBlkio(t *testing.T) {
	s := blkio([]cgroup.IO{
		{File: "io_service_bytes_recursive", Major: 8, Op: "Read", Value: 1},
		{File: "io.stat", Major: 8, Minor: 16, Op: "wbytes", Value: 2},
		{File: "io.stat", Op: "dios", Value: 3},
		{File: "nobody's", Value: 4},
	})
	got, err := json.Marshal(s.IoServiceBytesRecursive)
	if want := `[{"major":8,"minor":0,"op":"Read","value":1},{"major":8,"minor":16,"op":"write","value":2}]`; err != nil || string(got) != want {
		t.Errorf("bytes by device: %s, %v", got, err)
	}
	if len(s.IoServicedRecursive)+len(s.SectorsRecursive) != 0 {
		t.Errorf("what the kernel does not tell: %+v", s)
	}
}
