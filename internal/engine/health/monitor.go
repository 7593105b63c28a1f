package health

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// CheckFunc checks a container once and returns how long after its end the next
// check is due; negative: none is. It ends early with ctx: the container is not
// to be checked any more.
type CheckFunc func(ctx context.Context, id string) time.Duration

// Monitor runs the checks of all containers. Make it with New.
type Monitor struct {
	ctx   context.Context
	check CheckFunc
	work  sync.WaitGroup

	mu    sync.Mutex
	of    map[string]*watch
	due   queue
	timer *time.Timer // for due[0]; nil while nothing is due
}

// A check may run early, by a part of its interval, together with one that is due:
// what wakes up for many at a time, here, in the supervisor and in the Go runtimes
// of both, does so once.
const (
	earlyPart = 32
	maxEarly  = 250 * time.Millisecond
)

// watch is a container that is checked.
type watch struct {
	id     string
	at     time.Time          // of the next check
	early  time.Duration      // how much sooner it may be
	index  int                // in the queue; -1 while a check runs
	cancel context.CancelFunc // of the check that runs
}

// New returns a monitor whose checks end with ctx.
func New(ctx context.Context, check CheckFunc) *Monitor {
	return &Monitor{ctx: ctx, check: check, of: map[string]*watch{}}
}

// Watch checks a container from now on, for the first time after a while. A
// check of it that runs already is cut off.
func (m *Monitor) Watch(id string, after time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked(id)
	if m.ctx.Err() != nil {
		return
	}
	w := &watch{id: id}
	m.of[id] = w
	m.pushLocked(w, after)
}

// Forget does not check a container any more, and cuts off a check that runs.
func (m *Monitor) Forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked(id)
}

// Wait returns when no check runs and none will; the context given to New must
// have ended.
func (m *Monitor) Wait() {
	m.mu.Lock()
	m.due = nil
	clear(m.of)
	m.armLocked()
	m.mu.Unlock()
	m.work.Wait()
}

func (m *Monitor) forgetLocked(id string) {
	w := m.of[id]
	if w == nil {
		return
	}
	delete(m.of, id)
	if w.index < 0 {
		w.cancel()
		return
	}
	heap.Remove(&m.due, w.index)
	m.armLocked()
}

func (m *Monitor) pushLocked(w *watch, after time.Duration) {
	w.at, w.early = time.Now().Add(after), min(after/earlyPart, maxEarly)
	heap.Push(&m.due, w)
	m.armLocked()
}

// armLocked sets the timer to the first check.
func (m *Monitor) armLocked() {
	switch {
	case len(m.due) == 0 && m.timer != nil:
		m.timer.Stop()
		m.timer = nil
	case len(m.due) > 0 && m.timer != nil:
		m.timer.Reset(time.Until(m.due[0].at))
	case len(m.due) > 0:
		m.timer = time.AfterFunc(time.Until(m.due[0].at), m.expire)
	}
}

// expire begins the checks that are due, and those after them that may be early.
func (m *Monitor) expire() {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for begun := false; len(m.due) > 0 && m.ctx.Err() == nil; begun = true {
		w := m.due[0]
		if ahead := w.at.Sub(now); ahead > 0 && (!begun || ahead > w.early) {
			break
		}
		heap.Pop(&m.due)
		var ctx context.Context
		ctx, w.cancel = context.WithCancel(m.ctx)
		m.work.Go(func() { m.run(ctx, w) })
	}
	if m.ctx.Err() == nil {
		m.armLocked()
	}
}

func (m *Monitor) run(ctx context.Context, w *watch) {
	defer w.cancel()
	next := m.check(ctx, w.id)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.of[w.id] != w: // forgotten, or watched anew
	case next < 0, m.ctx.Err() != nil:
		delete(m.of, w.id)
	default:
		m.pushLocked(w, next)
	}
}

// queue is a heap of the checks to come.
type queue []*watch

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	w := x.(*watch)
	w.index = len(*q)
	*q = append(*q, w)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	w := old[len(old)-1]
	old[len(old)-1] = nil
	w.index = -1
	*q = old[:len(old)-1]
	return w
}
