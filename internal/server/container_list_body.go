package server

import (
	"slices"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"

	"lade/internal/engine"
)

const (
	// keptBodies is how many lists are kept: those that run and all, for clients
	// of two versions.
	keptBodies = 4
	// keptFor is how long they are. Who asks again and again loses little by it.
	keptFor = time.Minute
	// worthKeeping is the number of containers from which on a list is kept: it
	// takes longer to write a longer one than to find out that it is the same.
	worthKeeping = 16
)

// listBodies writes lists of containers. Watchers ask for the same list again and
// again, of which little changes: each container's text is kept with its summary,
// and the last whole answers for when nothing has changed at all. Memory: a text
// of each container in each form that is asked for, and keptBodies answers, for a
// minute.
type listBodies struct {
	mu    sync.Mutex
	kept  []*listBody // used last first
	timer *time.Timer // drops them; nil when there are none
	spare sync.Pool   // of *listBody that nobody uses
}

// listBody is the answer of a list. What it holds is not changed while it has users.
type listBody struct {
	form  int
	of    []*engine.Listed
	text  []byte
	users int // those who send it, and one while it is kept; guarded by mu
}

// body returns the answer with a list in a form, see engine.Listed, which is the
// caller's until done.
func (l *listBodies) body(list []*engine.Listed, form int, write func(*container.Summary) []byte) *listBody {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.kept, func(b *listBody) bool { return b.form == form && slices.Equal(b.of, list) })
	if i >= 0 {
		b := l.kept[i]
		copy(l.kept[1:i+1], l.kept[:i])
		l.kept[0] = b
		b.users++
		return b
	}
	b, ok := l.spare.Get().(*listBody)
	if !ok {
		b = &listBody{}
	}
	b.form, b.users, b.of, b.text = form, 1, nil, append(b.text[:0], '[')
	for i, one := range list {
		if i > 0 {
			b.text = append(b.text, ',')
		}
		b.text = append(b.text, one.Text(form, write)...)
	}
	b.text = append(b.text, "]\n"...)
	if len(list) >= worthKeeping {
		b.of = list
		l.keepLocked(b)
	}
	return b
}

// keepLocked keeps a body, for one that was not asked for so lately.
func (l *listBodies) keepLocked(b *listBody) {
	if len(l.kept) == keptBodies {
		l.releaseLocked(l.kept[keptBodies-1])
		l.kept = l.kept[:keptBodies-1]
	}
	b.users++
	l.kept = slices.Insert(l.kept, 0, b)
	if l.timer == nil {
		l.timer = time.AfterFunc(keptFor, l.drop)
	}
}

// drop keeps nothing any more.
func (l *listBodies) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.kept {
		l.releaseLocked(b)
	}
	l.kept, l.timer = nil, nil
}

// done gives a body back.
func (l *listBodies) done(b *listBody) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.releaseLocked(b)
}

func (l *listBodies) releaseLocked(b *listBody) {
	if b.users--; b.users == 0 && cap(b.text) <= keep {
		b.of = nil
		l.spare.Put(b)
	}
}
