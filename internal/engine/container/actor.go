package container

import (
	"context"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/trace"
)

// workTimeout bounds what is done outside the loop on nobody's request.
const workTimeout = 2 * time.Minute

// Stream is a client that wants to be attached.
type Stream struct {
	File                  *os.File // a connected stream socket; closed by whoever holds it last
	Early                 []byte   // what the client sent already
	Stdin, Stdout, Stderr bool
	DetachKeys            []byte
}

// Launched is a started process.
type Launched struct {
	Pid       int
	StartedAt time.Time
	Cgroup    string      // as Record.Cgroup
	Confined  Confinement // as Record.Confined
	Pipes     [3]uint64   // as Record.Pipes
}

// Exit is how a process ended.
type Exit struct {
	Code int // exit status or 128+signal; -1: not known
	Pid  int // of the process; 0: not known
	OOM  bool
	At   time.Time
}

// StartError is a failed start with the exit code it stands for.
type StartError struct {
	Code int // 126, 127 or 128
	Err  error
}

// Error returns the reason.
func (e *StartError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *StartError) Unwrap() error { return e.Err }

// Host is what a container needs of the engine. Its methods may block; they
// are called outside the actor's loop, except Save, Erase, Publish and Watch.
type Host interface {
	// Launch starts the container's process, with all that it needs. On error
	// nothing remains of it. It takes the streams over.
	Launch(ctx context.Context, r *Record, attach []Stream) (Launched, error)
	// Attach connects a stream with the running process, and takes it over.
	Attach(ctx context.Context, r *Record, s Stream) error
	// Signal sends a signal to the first process, or to all.
	Signal(ctx context.Context, id string, signal int, all bool) error
	// Freeze stops, or with thaw continues, all processes.
	Freeze(ctx context.Context, id string, thaw bool) error
	// Limit changes the limits of the running container.
	Limit(ctx context.Context, r *Record) error
	// Release gives back what the container held while it ran. It is called
	// after the exit was recorded.
	Release(r *Record)
	// Discard deletes the files of what was erased.
	Discard(ctx context.Context, r *Record) error
	// Save writes the record; durable waits for the disk.
	Save(ctx context.Context, r *Record, durable bool) error
	// Erase deletes the record, and those of its anonymous volumes if asked,
	// durably.
	Erase(ctx context.Context, r *Record, volumes bool) error
	// Publish tells the event log.
	Publish(r *Record, action events.Action, more map[string]string)
	// Watch is told of each state that begins or ends checks of its health; it is
	// called for containers that have a check only, and does not block.
	Watch(r *Record)
	// Gone is told when the container does not exist any more.
	Gone(r *Record)
}

// Actor owns one container.
type Actor struct {
	id   string
	host Host
	log  *slog.Logger
	view atomic.Pointer[Record]
	in   chan func()
	ctx  context.Context // ends when the engine closes
	done chan struct{}   // closed when the loop has ended

	// Owned by the loop:
	rec      Record
	origin   State    // where Starting came from
	busy     bool     // work outside the loop that forbids other changes
	deferred []func() // commands that wait for the end of it
	early    *Exit    // an exit that overtook the reply to its start
	pending  []Stream // attached before the start
	waiters  []waiter
	exited   chan struct{} // closed at the next exit; nil when nobody waits
	backoff  time.Duration // before the next restart
	timer    *time.Timer   // of Restarting
	halting  bool          // the next end is none that the restart policy answers
	kept     bool          // the next end is none that removes it,
	doomed   bool          // unless somebody has asked for that by force
	work     sync.WaitGroup
}

type waiter struct {
	until container.WaitCondition
	reply chan container.WaitResponse
}

// New starts the actor of a container with the given record, which it owns
// from now on. It runs until the container is removed or ctx ends.
func New(ctx context.Context, rec Record, host Host, log *slog.Logger) *Actor {
	a := &Actor{
		id: rec.ID, host: host, log: log.With("container", rec.ID[:min(len(rec.ID), 12)]), ctx: ctx, rec: rec,
		in: make(chan func()), done: make(chan struct{}),
	}
	published := rec
	a.view.Store(&published)
	go a.loop()
	return a
}

// View returns the container as it is. The caller must not change it.
func (a *Actor) View() *Record { return a.view.Load() }

// Done is closed when the actor has ended.
func (a *Actor) Done() <-chan struct{} { return a.done }

func (a *Actor) loop() {
	defer close(a.done)
	for a.rec.State != Gone {
		select {
		case f := <-a.in:
			f()
		case <-a.ctx.Done():
			return
		}
	}
	a.finish()
}

// Join waits until the loop and everything it began have ended. The context
// given to New must have ended, or the container be gone.
func (a *Actor) Join() {
	<-a.done
	a.work.Wait()
}

// post sends a command to the loop and does not wait for it; it reports
// whether the loop is still there.
func (a *Actor) post(f func()) bool {
	select {
	case a.in <- f:
		return true
	case <-a.done:
		return false
	}
}

// call runs f in the loop; f calls its reply once, now or later. The wait ends
// with ctx, the command does not.
func (a *Actor) call(ctx context.Context, f func(reply func(error))) error {
	result := make(chan error, 1)
	if !a.post(func() { f(func(err error) { result <- err }) }) {
		return a.noSuch()
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-a.done:
		select {
		case err := <-result:
			return err
		default:
			return a.noSuch()
		}
	}
}

func (a *Actor) noSuch() error {
	if a.ctx.Err() != nil {
		return errdefs.Unavailablef("the engine is shutting down")
	}
	return errdefs.NotFoundf("No such container: %s", a.id)
}

// outside runs work in a goroutine and then in the loop. Until then commands
// that go through idle wait.
func (a *Actor) outside(work func(ctx context.Context) error, then func(error)) {
	a.busy = true
	a.work.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(a.ctx), workTimeout)
		defer cancel()
		err := a.contain(ctx, work)
		a.post(func() {
			a.busy = false
			then(err)
			a.resume()
		})
	})
}

// contain returns a panic of work as an error: a fault that one container brings
// about must not take the engine along, with every other.
func (a *Actor) contain(ctx context.Context, work func(ctx context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("panic in a container's work", "container", a.id, "panic", p, "stack", string(debug.Stack()))
			err = errdefs.Internalf("internal error: see the daemon's log")
		}
	}()
	return work(ctx)
}

// resume runs the commands that waited, as far as they may.
func (a *Actor) resume() {
	for !a.busy && len(a.deferred) > 0 {
		f := a.deferred[0]
		a.deferred = a.deferred[1:]
		f()
	}
}

// idle runs f now, or when the work outside the loop has ended.
func (a *Actor) idle(f func()) {
	if a.busy {
		a.deferred = append(a.deferred, f)
		return
	}
	f()
}

// commit is the only place where a container changes: it checks the move,
// writes the record, publishes the view, and tells the event log if action is
// not empty.
func (a *Actor) commit(next Record, durable bool, action events.Action, more map[string]string) error {
	span := trace.Begin(trace.State, a.rec.State.String()+"→"+next.State.String(), a.rec.ID)
	moved := next.State != a.rec.State
	if moved {
		if err := a.rec.State.check(next.State); err != nil {
			return span.End(err)
		}
		next.Health = next.moved(a.rec.State)
	}
	failpoint.Hit("container.commit")
	if err := a.host.Save(context.WithoutCancel(a.ctx), &next, durable); err != nil {
		return span.End(err)
	}
	failpoint.Hit("container.committed")
	a.show(next)
	if action != "" {
		a.host.Publish(a.View(), action, more)
	}
	if moved && next.Health != nil {
		a.host.Watch(a.View())
	}
	return span.End(nil)
}

// show publishes the record without writing it: for states that are not
// persisted (starting, removing).
func (a *Actor) show(next Record) {
	a.rec = next
	a.view.Store(&next)
}

// finish answers everybody who still waits when the container is gone.
func (a *Actor) finish() {
	for _, s := range a.pending {
		s.File.Close()
	}
	a.pending = nil
	a.notify(container.WaitConditionRemoved)
	a.notify(container.WaitConditionNextExit)
	a.notify(container.WaitConditionNotRunning)
	for _, f := range a.deferred {
		f()
	}
}

// notify answers the waiters of a condition.
func (a *Actor) notify(until container.WaitCondition) {
	rest := a.waiters[:0]
	for _, w := range a.waiters {
		if w.until != until {
			rest = append(rest, w)
			continue
		}
		w.reply <- a.status(until)
	}
	a.waiters = rest
}

// status answers a waiter. One who waits for the removal is told of no error of
// the start, as in Docker: its client says twice what start says already.
func (a *Actor) status(until container.WaitCondition) container.WaitResponse {
	r := container.WaitResponse{StatusCode: int64(a.rec.ExitCode)}
	if a.rec.Error != "" && until != container.WaitConditionRemoved {
		r.Error = &container.WaitExitError{Message: a.rec.Error}
	}
	return r
}

// Wait returns a channel that delivers one response when the condition is met.
// An empty condition means not-running. Errors: Invalid for an unknown one.
func (a *Actor) Wait(ctx context.Context, until container.WaitCondition) (<-chan container.WaitResponse, error) {
	switch until {
	case "":
		until = container.WaitConditionNotRunning
	case container.WaitConditionNotRunning, container.WaitConditionNextExit, container.WaitConditionRemoved:
	default:
		return nil, errdefs.Invalidf("invalid condition: %q", until)
	}
	reply := make(chan container.WaitResponse, 1)
	err := a.call(ctx, func(ok func(error)) {
		switch s := a.rec.State; {
		case until == container.WaitConditionNotRunning && !s.Alive() && s != Restarting && s != Starting:
			reply <- a.status(until)
		default:
			a.waiters = append(a.waiters, waiter{until, reply})
		}
		ok(nil)
	})
	return reply, err
}

// Attach connects a stream with the container's process, or keeps it for the
// next start. open makes the stream, and may tell the client so: a start that
// the client asks for thereafter has the stream. Errors: Conflict for a
// container that is being removed, and what open says; open is then not called.
func (a *Actor) Attach(ctx context.Context, open func() (Stream, error)) error {
	return a.call(ctx, func(reply func(error)) {
		if a.rec.State.Alive() {
			a.join(ctx, open, reply)
			return
		}
		a.idle(func() { // a process that is being started is there then
			switch s := a.rec.State; {
			case s == Removing || s == Dead:
				reply(errdefs.Conflictf("container %s is marked for removal and cannot be attached", a.rec.ID))
			case s.Alive():
				a.join(ctx, open, reply)
			default:
				a.await(open, reply)
			}
		})
	})
}

// join attaches to the running process.
func (a *Actor) join(ctx context.Context, open func() (Stream, error), reply func(error)) {
	rec := a.View()
	a.work.Go(func() {
		s, err := open()
		if err == nil {
			err = a.host.Attach(context.WithoutCancel(ctx), rec, s)
		}
		if err == nil {
			a.host.Publish(rec, events.ActionAttach, nil)
		}
		reply(err)
	})
}

// await keeps a stream for the next start, which waits for it.
func (a *Actor) await(open func() (Stream, error), reply func(error)) {
	var s Stream
	a.outside(func(context.Context) (err error) {
		s, err = open()
		return err
	}, func(err error) {
		if err == nil {
			a.pending = append(a.pending, s)
			a.host.Publish(a.View(), events.ActionAttach, nil)
		}
		reply(err)
	})
}

// Rename gives the container another name. The caller has reserved it.
func (a *Actor) Rename(ctx context.Context, name string) error {
	return a.call(ctx, func(reply func(error)) {
		a.idle(func() {
			old := a.rec.Name
			next := a.rec
			next.Name = name
			reply(a.commit(next, true, events.ActionRename, map[string]string{"oldName": "/" + old}))
		})
	})
}

// Update changes limits and restart policy: change is given a copy of the
// record with configurations of its own, and changes what is asked for in it.
func (a *Actor) Update(ctx context.Context, change func(*Record) error) error {
	return a.Amend(ctx, change, func(ctx context.Context, asked *Record) (func(), error) {
		return func() {}, a.host.Limit(ctx, asked) // the next start has the recorded limits
	})
}
