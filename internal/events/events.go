package events

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"

	"lade/internal/errdefs"
	"lade/internal/filters"
)

// keep is how many messages can be replayed.
const keep = 2048

// accepted are the filters that Subscribe understands.
var accepted = [...]string{"config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret", "service", "type", "volume"}

// Log is the engine's stream of events. The zero Log is ready for use, and ends
// with the process; see Keep.
type Log struct {
	mu    sync.Mutex
	ring  []events.Message // guarded by mu; message i stands at i%keep
	next  int              // number of the next message
	more  chan struct{}    // closed when a message is added; nil when nobody waits
	stamp int64            // time of the newest message: see stampAfter
	subs  int              // sequences that are being read
	kept  *journal         // nil: nothing is kept
}

// Publish adds a message with the present time. The attributes must not be
// changed afterwards.
func (l *Log) Publish(kind events.Type, action events.Action, id string, attributes map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stamp = stampAfter(l.stamp, time.Now().UnixNano())
	m := events.Message{
		Type: kind, Action: action, Actor: events.Actor{ID: id, Attributes: attributes},
		Scope: "local", Time: l.stamp / int64(time.Second), TimeNano: l.stamp,
	}
	l.add(m)
	if l.kept != nil {
		_ = l.kept.add(&m) // subscribers have it; Publish has nobody to tell
	}
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
}

// setBack is by how much the clock must be behind the newest message for it to
// have been set, rather than to have stood still between two messages.
const setBack = int64(time.Second)

// stampAfter returns the time of a message that comes at now. Times rise strictly,
// so that who asks for what came since the last one misses none, except where
// somebody set the clock back: then they are the clock's. The order of messages
// is that of their numbers in any case.
func stampAfter(last, now int64) int64 {
	if now <= last && last-now < setBack {
		return last + 1
	}
	return now
}

// add puts a message into the ring.
func (l *Log) add(m events.Message) {
	if len(l.ring) < keep {
		l.ring = append(l.ring, m)
	} else {
		l.ring[l.next%keep] = m
	}
	l.next++
}

// Query says which messages a subscriber wants.
type Query struct {
	Since   time.Time // zero: only new ones
	Until   time.Time // zero: without end
	Filters filters.Args
}

// Subscribe returns the messages from now on (after those kept since
// q.Since), until ctx ends or q.Until has passed. The subscription begins when
// Subscribe returns. Errors: Invalid for an unknown filter; the sequence
// yields one error, Exhausted, when the reader fell too far behind.
func (l *Log) Subscribe(ctx context.Context, q Query) (iter.Seq2[events.Message, error], error) {
	if err := q.Filters.Validate(accepted[:]...); err != nil {
		return nil, err
	}
	l.mu.Lock()
	at, begin := l.next, l.next
	if !q.Since.IsZero() {
		at = max(0, l.next-keep)
	}
	l.mu.Unlock()
	return func(yield func(events.Message, error) bool) {
		l.count(1)
		defer l.count(-1)
		if !q.Until.IsZero() {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, q.Until)
			defer cancel()
		}
		for {
			batch, wait, lost := l.after(at)
			if lost {
				yield(events.Message{}, errdefs.Exhaustedf("events were produced faster than they were read"))
				return
			}
			at += len(batch)
			for i, m := range batch {
				if !q.Until.IsZero() && m.TimeNano > q.Until.UnixNano() {
					if at-len(batch)+i >= begin {
						return
					}
					continue // the clock may have been set back: earlier ones may follow
				}
				if !q.match(m) {
					continue
				}
				if !yield(m, nil) {
					return
				}
			}
			if len(batch) > 0 {
				continue
			}
			select {
			case <-wait:
			case <-ctx.Done():
				return
			}
		}
	}, nil
}

// Subscribers returns how many sequences of Subscribe are being read.
func (l *Log) Subscribers() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.subs
}

func (l *Log) count(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subs += n
}

// after returns the messages from number at on, and what to wait for when
// there are none; lost reports that some are gone.
func (l *Log) after(at int) (batch []events.Message, wait <-chan struct{}, lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next-at > keep {
		return nil, nil, true
	}
	for i := at; i < l.next; i++ {
		batch = append(batch, l.ring[i%keep])
	}
	if len(batch) == 0 && l.more == nil {
		l.more = make(chan struct{})
	}
	return batch, l.more, false
}

func (q Query) match(m events.Message) bool {
	f := q.Filters
	if !q.Since.IsZero() && m.TimeNano < q.Since.UnixNano() {
		return false
	}
	// "exec_create: sh" and "health_status: healthy" are also matched by their
	// first word, as in Docker.
	action, _, _ := strings.Cut(string(m.Action), ":")
	if f.Has("event") && !slices.Contains(f["event"], string(m.Action)) && !slices.Contains(f["event"], action) {
		return false
	}
	return f.Exact("type", string(m.Type)) && f.Exact("scope", m.Scope) && f.Labels("label", m.Actor.Attributes) &&
		object(f, events.ContainerEventType, m) && object(f, events.ImageEventType, m) &&
		object(f, events.VolumeEventType, m) && object(f, events.NetworkEventType, m) && object(f, events.DaemonEventType, m)
}

// object reports whether the filter named after a type of object accepts the
// message: by the object's id, its prefix or its name. A container's events
// also match the image filter by their attribute.
func object(f filters.Args, kind events.Type, m events.Message) bool {
	key := string(kind)
	if !f.Has(key) {
		return true
	}
	name := m.Actor.Attributes["name"]
	if m.Type != kind {
		if kind != events.ImageEventType || m.Type != events.ContainerEventType {
			return false
		}
		name = m.Actor.Attributes["image"]
		return f.Exact(key, name) || f.Exact(key, untagged(name))
	}
	return f.Prefix(key, m.Actor.ID) || f.Exact(key, name) || kind == events.ImageEventType && (f.Exact(key, untagged(m.Actor.ID)) || f.Exact(key, untagged(name)))
}

// untagged is an image's name without its tag.
func untagged(name string) string {
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i]
	}
	return name
}
