package server

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/moby/moby/api/types/container"

	"lade/internal/engine"
)

// lists is an engine whose list is another one with each change.
type lists struct {
	fake
	mu   sync.Mutex
	list []*engine.Listed
}

func (l *lists) ContainerList(context.Context, engine.ListOptions) ([]*engine.Listed, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.list), nil
}

// change makes, renames or removes a container.
func (l *lists) change(r *rand.Rand) {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := &engine.Listed{}
	one.ID, one.Names, one.Health = strconv.FormatUint(r.Uint64(), 16), []string{"/<n>"}, &container.HealthSummary{Status: "healthy"}
	i := r.IntN(len(l.list) + 1)
	switch {
	case len(l.list) < 5 || i == len(l.list):
		l.list = slices.Insert(slices.Clone(l.list), i, one)
	case len(l.list) > 40 || r.IntN(2) == 0:
		l.list = slices.Delete(slices.Clone(l.list), i, i+1)
	default:
		l.list = slices.Clone(l.list)
		l.list[i] = one
	}
}

// TestListIsCurrent: whatever was asked for before, by clients of whatever
// version, an answer is the list as it is, in the form of that version.
func TestListIsCurrent(t *testing.T) {
	l := &lists{}
	h := New(l, Options{})
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		if r.IntN(3) == 0 {
			l.change(r)
		}
		minor := []string{"56", "51", "47", "24"}[r.IntN(4)]
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest("GET", "/v1."+minor+"/containers/json", nil))
		want := []container.Summary{}
		for _, one := range l.list {
			s := one.Summary
			if minor != "56" {
				s.Health = nil
			}
			want = append(want, s)
		}
		var text bytes.Buffer
		if err := encodeTo(&text, want); err != nil {
			t.Fatal(err)
		}
		if rec.Body.String() != text.String() {
			t.Fatalf("1.%s: %s, want %s", minor, rec.Body, &text)
		}
	}
}

// TestListWhileItChanges: clients that are answered while the list changes each
// get a whole list, also when many of them share one.
func TestListWhileItChanges(t *testing.T) {
	l := &lists{}
	h := New(l, Options{})
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			r := rand.New(rand.NewPCG(3, uint64(i)))
			for range 1000 {
				l.change(r)
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, httptest.NewRequest("GET", "/containers/json", nil))
				var got []container.Summary
				if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil || rec.Header().Get("Content-Length") != strconv.Itoa(rec.Body.Len()) {
					t.Errorf("%v: %s", err, rec.Body)
					return
				}
			}
		})
	}
	clients.Wait()
}

// TestListIsDropped: nothing is kept of what nobody asks for.
func TestListIsDropped(t *testing.T) {
	l := &listBodies{}
	list := listed(make([]container.Summary, worthKeeping))
	write := func(*container.Summary) []byte { return []byte("{}") }
	for form := range keptBodies + 1 {
		l.done(l.body(list, form, write))
	}
	b := l.body(list, keptBodies, write)
	if len(l.kept) != keptBodies || b != l.kept[0] || b.users != 2 {
		t.Errorf("%d kept, %d users", len(l.kept), b.users)
	}
	l.timer.Stop()
	l.drop()
	if len(l.kept) != 0 || b.users != 1 || b.of == nil {
		t.Errorf("%d kept, %d users", len(l.kept), b.users)
	}
	l.done(b)
	if b.users != 0 || b.of != nil {
		t.Errorf("%d users", b.users)
	}
}

// quiet is an answer that nobody reads.
type quiet struct{ *httptest.ResponseRecorder }

func (quiet) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkContainerList is what the server does for a list of 1,000 containers,
// none of which has changed, or one.
func BenchmarkContainerList(b *testing.B) {
	for _, changes := range []bool{false, true} {
		b.Run("change="+strconv.FormatBool(changes), func(b *testing.B) {
			l := &lists{list: listed(thousand())}
			h := New(l, Options{})
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if changes {
					l.list[i%1000] = &engine.Listed{Summary: l.list[0].Summary}
				}
				h.ServeHTTP(quiet{httptest.NewRecorder()}, httptest.NewRequest("GET", "/containers/json", nil))
			}
		})
	}
}
