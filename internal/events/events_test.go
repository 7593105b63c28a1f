package events

import (
	"context"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"

	"lade/internal/errdefs"
	"lade/internal/filters"
)

func collect(t *testing.T, l *Log, q Query) []string {
	t.Helper()
	q.Until = time.Now().Add(20 * time.Millisecond)
	seq, err := l.Subscribe(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for m, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(m.Type)+" "+string(m.Action)+" "+m.Actor.ID)
	}
	return got
}

func TestFilters(t *testing.T) {
	var l Log
	start := time.Now()
	l.Publish(events.ContainerEventType, "create", "c1", map[string]string{"name": "web", "image": "busybox:latest", "a": "1"})
	l.Publish(events.ContainerEventType, "exec_create: sh", "c1", map[string]string{"name": "web", "image": "busybox:latest"})
	l.Publish(events.ImageEventType, "pull", "busybox:latest", map[string]string{"name": "busybox"})
	l.Publish(events.VolumeEventType, "create", "v", nil)
	for _, tc := range []struct {
		f    filters.Args
		want int
	}{
		{nil, 4},
		{filters.Args{"type": {"container"}}, 2},
		{filters.Args{"container": {"web"}}, 2},
		{filters.Args{"container": {"c"}}, 2},
		{filters.Args{"event": {"exec_create"}}, 1},
		{filters.Args{"event": {"create"}}, 2},
		{filters.Args{"image": {"busybox"}}, 3},
		{filters.Args{"label": {"a=1"}}, 1},
		{filters.Args{"volume": {"v"}, "event": {"create"}}, 1},
	} {
		if got := collect(t, &l, Query{Since: start, Filters: tc.f}); len(got) != tc.want {
			t.Errorf("%v: %q", tc.f, got)
		}
	}
	if _, err := l.Subscribe(t.Context(), Query{Filters: filters.Args{"x": {"y"}}}); errdefs.KindOf(err) != errdefs.Invalid {
		t.Errorf("unknown filter: %v", err)
	}
}

func TestLive(t *testing.T) {
	var l Log
	l.Publish(events.VolumeEventType, "create", "old", nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seq, err := l.Subscribe(ctx, Query{})
	if err != nil {
		t.Fatal(err)
	}
	l.Publish(events.VolumeEventType, "create", "new", nil)
	for m := range seq {
		if m.Actor.ID != "new" {
			t.Errorf("got %s", m.Actor.ID)
		}
		cancel()
	}
}

func TestLost(t *testing.T) {
	var l Log
	seq, err := l.Subscribe(t.Context(), Query{})
	if err != nil {
		t.Fatal(err)
	}
	for range keep + 1 {
		l.Publish(events.VolumeEventType, "create", "v", nil)
	}
	for _, err := range seq {
		if errdefs.KindOf(err) != errdefs.Exhausted {
			t.Fatalf("err = %v", err)
		}
		return
	}
	t.Error("nothing was said of the lost messages")
}
