package image

import (
	"sync"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
)

// every is the least time between two reports of the same kind: often enough
// for a bar that moves, seldom enough to cost nothing.
const every = 100 * time.Millisecond

// Throttle lets few of many reports pass. It is for one goroutine.
type Throttle struct{ last time.Time }

// NewThrottle returns one that lets the first report after a moment pass.
func NewThrottle() *Throttle { return &Throttle{time.Now()} }

// NewThrottles returns one for each of n reporters.
func NewThrottles(n int) []*Throttle {
	all := make([]*Throttle, n)
	for i := range all {
		all[i] = NewThrottle()
	}
	return all
}

// Pass reports whether the caller should report now; always for the last one.
func (t *Throttle) Pass(last bool) bool {
	now := time.Now()
	if !last && now.Sub(t.last) < every {
		return false
	}
	t.last = now
	return true
}

// Ordered returns a Progress that many goroutines may call; nil stays silent.
func Ordered(p Progress) Progress {
	if p == nil {
		return func(jsonstream.Message) {}
	}
	var mu sync.Mutex
	return func(m jsonstream.Message) {
		mu.Lock()
		defer mu.Unlock()
		p(m)
	}
}
