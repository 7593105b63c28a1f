package snapshot

import (
	"context"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"lade/internal/trace"
)

// syncer writes a whole file system to its disk, by syncfs(2). Whoever asks
// while a call is under way shares the next one: layers that are unpacked in
// parallel cost one or two calls, not one each.
type syncer struct {
	// dir stays open so that syncfs reports every write error since the last
	// call, also of writes that failed in between (Linux 5.8).
	dir *os.File
	wg  sync.WaitGroup

	mu      sync.Mutex
	next    *flush // the call that is not begun yet; guarded by mu
	running bool   // a goroutine makes calls; guarded by mu
}

// flush is one call of syncfs.
type flush struct {
	done chan struct{} // closed at the end
	err  error         // valid then
}

// newSyncer returns a syncer for the file system of dir. The caller must close
// it.
func newSyncer(dir string) (*syncer, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return &syncer{dir: f}, nil
}

// wait returns when everything written before the call is on disk. When ctx
// ends first it returns at once.
func (s *syncer) wait(ctx context.Context) error {
	s.mu.Lock()
	if s.next == nil {
		s.next = &flush{done: make(chan struct{})}
	}
	f := s.next
	if !s.running {
		s.running = true
		s.wg.Go(s.work)
	}
	s.mu.Unlock()
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *syncer) work() {
	for {
		s.mu.Lock()
		f := s.next
		s.next = nil
		s.running = f != nil
		s.mu.Unlock()
		if f == nil {
			return
		}
		sp := trace.Begin(trace.File, "syncfs", s.dir.Name())
		f.err = sp.End(os.NewSyscallError("syncfs", unix.Syncfs(int(s.dir.Fd()))))
		close(f.done)
	}
}

// close waits for calls that are under way. Nothing may wait after it.
func (s *syncer) close() error {
	s.wg.Wait()
	return s.dir.Close()
}
