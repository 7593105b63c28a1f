package daemon

import (
	"runtime"
	"sync"
	"time"
)

// wideFor is how long the daemon keeps all processors after it last had more
// than one thing to do.
const wideFor = time.Second

// processors lets the Go runtime use one processor while the daemon does one
// thing at a time, and all of them as soon as there is more. What one request
// needs goes through half a dozen goroutines, each waiting for the one before.
// With a second processor the runtime wakes a thread at each of these hand-offs
// to see whether it could help: a fifth of the time and a quarter of the
// processor time of a container's start, for nothing.
//
// A system call keeps its processor until the runtime's monitor takes it away,
// within milliseconds; a request that comes meanwhile waits so long, once.
type processors struct {
	mu     sync.Mutex
	load   int       // guarded by mu: of the requests being answered
	wide   bool      // guarded by mu
	needed time.Time // guarded by mu: when more than one processor was, last
}

// newProcessors begins with all processors: the start has much to do.
func newProcessors() *processors {
	p := &processors{wide: true, needed: time.Now()}
	time.AfterFunc(wideFor, p.narrow)
	return p
}

// change adds to the load: 1 for a request that is handled step by step, more
// for one that can use several processors, negative when it has been answered.
func (p *processors) change(by int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.load > 1 {
		p.needed = time.Now()
	}
	if p.load += by; p.load > 1 && !p.wide {
		p.wide = true
		runtime.SetDefaultGOMAXPROCS()
		time.AfterFunc(wideFor, p.narrow)
	}
}

// narrow goes back to one processor, or looks again later.
func (p *processors) narrow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if rest := wideFor - time.Since(p.needed); p.load > 1 || rest > 0 {
		time.AfterFunc(max(rest, wideFor/10), p.narrow)
		return
	}
	p.wide = false
	runtime.GOMAXPROCS(1)
}
