package stream

import (
	"net/http"
	"sync"
)

// limit is how much may wait for a slow client before the producer blocks.
const limit = 64 << 10

// Writer sends what is written to it in batches: as soon as the connection is
// free, everything that has come in meanwhile. It implements io.Writer.
type Writer struct {
	w  http.ResponseWriter
	rc *http.ResponseController

	mu      sync.Mutex
	changed *sync.Cond // on mu
	pending []byte     // guarded by mu
	closed  bool       // guarded by mu
	err     error      // guarded by mu; the first failure
	done    sync.WaitGroup
}

// NewWriter returns a Writer for an answer whose header is set. The caller must
// Close it before the handler returns.
func NewWriter(w http.ResponseWriter) *Writer {
	s := &Writer{w: w, rc: http.NewResponseController(w)}
	s.changed = sync.NewCond(&s.mu)
	s.done.Go(s.send)
	return s
}

// Begin sends the header with status 200 at once, for clients that wait for it
// before anything happens. It must come before the first Write.
func Begin(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusOK)
	return http.NewResponseController(w).Flush()
}

// Write queues a copy of p. It blocks while too much is queued, and returns the
// error of an earlier batch: the client is gone.
func (s *Writer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.pending) >= limit && s.err == nil {
		s.changed.Wait()
	}
	if s.err != nil {
		return 0, s.err
	}
	if len(s.pending) == 0 { // nobody waits for more than the first
		s.changed.Broadcast()
	}
	s.pending = append(s.pending, p...)
	return len(p), nil
}

// Close sends what is left and returns the first error of sending.
func (s *Writer) Close() error {
	s.mu.Lock()
	s.closed = true
	s.changed.Broadcast()
	s.mu.Unlock()
	s.done.Wait()
	return s.err
}

func (s *Writer) send() {
	var batch []byte
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for len(s.pending) == 0 && !s.closed {
			s.changed.Wait()
		}
		if len(s.pending) == 0 || s.err != nil {
			return
		}
		batch, s.pending = s.pending, batch[:0]
		s.mu.Unlock()
		_, err := s.w.Write(batch)
		if err == nil {
			err = s.rc.Flush()
		}
		s.mu.Lock()
		s.err = err
		s.changed.Broadcast()
	}
}
