package engine

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"lade/internal/engine/container"
)

// TestIndexOrder: the newest container is first whatever came and went, and
// what a caller does with the list is not seen by the next.
func TestIndexOrder(t *testing.T) {
	r := newIndex()
	order := func() string {
		var names []string
		for _, a := range r.all() {
			names = append(names, a.View().ID)
		}
		return strings.Join(names, " ")
	}
	for i, id := range []string{"b", "d", "a", "c"} {
		r.add(container.New(t.Context(), container.Record{ID: id, Created: time.Unix(int64(i/2), 0)}, nil, slog.New(slog.DiscardHandler)))
	}
	if got := order(); got != "a c b d" { // of the same moment by id
		t.Error(got)
	}
	slices.Reverse(r.all())
	if got := order(); got != "a c b d" {
		t.Errorf("after a caller's change: %s", got)
	}
	r.remove("c")
	if got := order(); got != "a b d" {
		t.Errorf("after a removal: %s", got)
	}
	r.add(container.New(t.Context(), container.Record{ID: "e", Created: time.Unix(9, 0)}, nil, slog.New(slog.DiscardHandler)))
	if got := order(); got != "e a b d" {
		t.Errorf("after an addition: %s", got)
	}
}
