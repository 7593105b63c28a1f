package supervisor

import "sync"

// eventQueue is the unbounded queue between the receiver and the Handler, so
// that a Handler that waits for an answer does not keep it from coming.
type eventQueue struct {
	mu    sync.Mutex // guards what follows
	more  sync.Cond
	queue []any // wire.Exited, wire.OOM, then an error or nil
	ended bool
}

func (q *eventQueue) init() { q.more.L = &q.mu }

func (q *eventQueue) add(e any) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.ended {
		q.queue = append(q.queue, e)
		q.more.Signal()
	}
}

// end is the last event: err, or nothing more at all if quiet.
func (q *eventQueue) end(err error, quiet bool) {
	if quiet {
		q.mu.Lock()
		q.queue = nil
		q.mu.Unlock()
		q.add(nil)
	} else {
		q.add(err)
	}
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
}

func (q *eventQueue) take() any {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.queue) == 0 {
		q.more.Wait()
	}
	e := q.queue[0]
	q.queue[0] = nil
	q.queue = q.queue[1:]
	return e
}
