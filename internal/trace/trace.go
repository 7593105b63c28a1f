package trace

import (
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Kind says which kernel facility an event belongs to.
type Kind uint8

// The kinds, in the words that LADE_TRACE takes.
const (
	Mount Kind = iota
	Cgroup
	Net
	Nft
	Process
	State
	File
	kinds
)

var kindNames = [kinds]string{"mount", "cgroup", "net", "nft", "process", "state", "file"}

// Event is one mutation or transition.
type Event struct {
	Kind   Kind
	Op     string // the system call or the operation, in the kernel's word
	Object string // what it acted on
	Start  time.Time
	Took   time.Duration
	Err    error
}

// keep is how many events Last can return.
const keep = 256

var (
	printed atomic.Uint32 // bit set of kinds that go to standard error

	mu   sync.Mutex
	ring [keep]Event // guarded by mu
	next int         // guarded by mu
)

// Enable sets the kinds that are printed, from the value of LADE_TRACE.
// Unknown words are ignored.
func Enable(list string) {
	var set uint32
	for w := range strings.SplitSeq(list, ",") {
		w = strings.TrimSpace(w)
		for k, n := range kindNames {
			if w == n || w == "all" {
				set |= 1 << k
			}
		}
	}
	printed.Store(set)
}

// Span is an event under way.
type Span struct{ e Event }

// Begin notes that op on object starts now. The caller must call End.
func Begin(k Kind, op, object string) Span {
	return Span{Event{Kind: k, Op: op, Object: object, Start: time.Now()}}
}

// End records the event with its result and returns err unchanged, so that it
// can stand in a return statement.
func (s Span) End(err error) error {
	s.e.Took, s.e.Err = time.Since(s.e.Start), err
	mu.Lock()
	ring[next%keep] = s.e
	next++
	mu.Unlock()
	if printed.Load()&(1<<s.e.Kind) != 0 {
		os.Stderr.WriteString(s.e.String() + "\n")
	}
	return err
}

// Last returns the most recent events, oldest first.
func Last() []Event {
	mu.Lock()
	defer mu.Unlock()
	from := max(0, next-keep)
	out := make([]Event, 0, next-from)
	for i := from; i < next; i++ {
		out = append(out, ring[i%keep])
	}
	return out
}

// String formats the event as the line that LADE_TRACE prints.
func (e Event) String() string {
	result := "ok"
	if e.Err != nil {
		result = e.Err.Error()
	}
	return "trace " + kindNames[e.Kind] + " " + e.Op + " " + e.Object + " " + e.Took.String() + " " + result
}
