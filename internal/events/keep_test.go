package events

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"
)

// reopen goes on with what another log has left.
func reopen(t *testing.T, path string) *Log {
	t.Helper()
	l := new(Log)
	if err := l.Keep(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestKeep checks that messages are replayed by another log, in order and with
// rising times, also after a torn line, and that the files are bounded.
func TestKeep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	l := reopen(t, path)
	begin := time.Now()
	const n = 2*keep + 500
	for i := range n {
		l.Publish(events.ContainerEventType, "start", fmt.Sprint(i), map[string]string{"name": "c<>", "i": fmt.Sprint(i)})
	}
	// As after kill -9 in the middle of a write.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"Type":"container","Act`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	again := reopen(t, path)
	again.Publish(events.ContainerEventType, "die", "last", nil)
	again = reopen(t, path)
	got := collect(t, again, Query{Since: begin})
	if len(got) != keep || got[keep-1] != "container die last" || got[keep-2] != fmt.Sprint("container start ", n-1) || got[0] != fmt.Sprint("container start ", n-keep+1) {
		t.Errorf("%d messages: %q … %q", len(got), got[:2], got[len(got)-2:])
	}
	var last int64
	seq, err := again.Subscribe(t.Context(), Query{Since: begin, Until: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for m, err := range seq {
		if err != nil || m.TimeNano <= last {
			t.Fatalf("%d after %d, %v", m.TimeNano, last, err)
		}
		last = m.TimeNano
	}
	for _, p := range []string{path, path + former} {
		raw, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(string(raw), "\n"); lines > keep+1 {
			t.Errorf("%s has %d lines", p, lines)
		}
	}
}

func FuzzKeep(f *testing.F) {
	f.Add([]byte(`{"Type":"container","Action":"start","Actor":{"ID":"x"},"timeNano":5}` + "\nnonsense\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "events")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		l := reopen(t, path)
		l.Publish(events.ContainerEventType, "die", "last", nil)
		all, err := load(path)
		if err != nil || len(all) == 0 || all[len(all)-1].Actor.ID != "last" {
			t.Errorf("%v, %v", all, err)
		}
	})
}

func BenchmarkPublish(b *testing.B) {
	l := new(Log)
	if err := l.Keep(filepath.Join(b.TempDir(), "events")); err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	attributes := map[string]string{"image": "busybox", "name": "web", "label": "value"}
	for b.Loop() {
		l.Publish(events.ContainerEventType, "start", "c654eb3e6aadb44b4ada8bb55ea96cb84fad2ed589fb20b4d515dff5a0401c1e", attributes)
	}
}
