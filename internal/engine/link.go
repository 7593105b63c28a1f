package engine

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/supervisor"
	"lade/internal/supervisor/wire"

	"golang.org/x/sys/unix"
)

// ConnectFunc connects with the supervisor, starting one if none answers.
type ConnectFunc func(ctx context.Context, h supervisor.Handler) (*supervisor.Client, wire.Welcome, error)

// process names a running process of the supervisor's: a container's first
// one, or an exec.
type process struct{ id, exec string }

// link is the engine's connection with its supervisor. It keeps duplicates of
// what the supervisor holds of each process. When the supervisor is lost it
// connects with another one, which is told of what runs before anybody else
// may use it; requests wait meanwhile.
type link struct {
	connect ConnectFunc
	events  supervisor.Handler // Lost is not called
	log     *slog.Logger
	ctx     context.Context // ends at Close

	mu      sync.Mutex
	session *session          // nil while there is none
	ready   chan struct{}     // closed when there is one; made anew when it is lost
	held    map[process]*hold // of running processes

	keeper sync.WaitGroup
}

// session is the connection with one supervisor. It is the client's Handler.
type session struct {
	supervisor.Handler
	client  *supervisor.Client
	lost    chan struct{}   // closed when the connection is
	filters map[string]bool // seccomp filters that the supervisor has; guarded by link.mu
	starts  sync.WaitGroup  // under way
}

// Lost implements supervisor.Handler.
func (s *session) Lost(error) { close(s.lost) }

// broken reports whether a request failed because the connection is lost,
// which the client learns a moment later than the request.
func (s *session) broken(err error) bool {
	if !errors.Is(err, errdefs.Unavailable) {
		return false
	}
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case <-s.lost:
		return true
	case <-t.C:
		return false
	}
}

// hold is what a new supervisor needs to carry on with a process.
type hold struct {
	started *supervisor.Started
	adopt   wire.Adopt // without descriptors
}

// newLink returns a link that is not connected. Requests wait until use.
func newLink(ctx context.Context, connect ConnectFunc, events supervisor.Handler, log *slog.Logger) *link {
	return &link{connect: connect, events: events, log: log, ctx: ctx, held: map[process]*hold{}, ready: make(chan struct{})}
}

// open connects. Nobody uses the session before up.
func (l *link) open(ctx context.Context) (*session, wire.Welcome, error) {
	s := &session{Handler: l.events, lost: make(chan struct{}), filters: map[string]bool{}}
	var w wire.Welcome
	var err error
	s.client, w, err = l.connect(ctx, s)
	return s, w, err
}

// up lets everybody use a session.
func (l *link) up(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.session = s
	close(l.ready)
}

// down lets nobody use a session any more.
func (l *link) down(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == s {
		l.session, l.ready = nil, make(chan struct{})
	}
}

// keep replaces lost supervisors until the engine ends; it returns at once. tell brings what a new
// one and the engine know together.
func (l *link) keep(tell func(context.Context, *supervisor.Client, wire.Welcome) error) {
	l.keeper.Go(func() { l.replace(tell) })
}

func (l *link) replace(tell func(context.Context, *supervisor.Client, wire.Welcome) error) {
	for {
		l.mu.Lock()
		s := l.session
		l.mu.Unlock()
		select {
		case <-s.lost:
		case <-l.ctx.Done():
			return
		}
		l.log.Error("the supervisor is gone; another one takes over")
		l.down(s)
		s.starts.Wait() // what was started is held now
		s.client.Close()
		for delay := 100 * time.Millisecond; ; delay = min(2*delay, 5*time.Second) {
			next, w, err := l.open(l.ctx)
			if err == nil {
				if err = tell(l.ctx, next.client, w); err == nil {
					l.up(next)
					break
				}
				next.client.Close()
			}
			if l.ctx.Err() != nil {
				return
			}
			l.log.Error("no supervisor could take over", "error", err)
			t := time.NewTimer(delay)
			select {
			case <-t.C:
			case <-l.ctx.Done():
				t.Stop()
				return
			}
		}
	}
}

// use returns the session, waiting while a lost supervisor is replaced. With
// start the caller must call starts.Done.
func (l *link) use(ctx context.Context, start bool) (*session, error) {
	for {
		l.mu.Lock()
		s, ready := l.session, l.ready
		if s != nil && start {
			s.starts.Add(1)
		}
		l.mu.Unlock()
		if s != nil {
			return s, nil
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-l.ctx.Done():
			return nil, errdefs.Unavailablef("the engine is shutting down")
		}
	}
}

// do makes a request that may be repeated: when the supervisor is lost
// meanwhile, the next one is asked.
func (l *link) do(ctx context.Context, ask func(*supervisor.Client) error) error {
	for {
		s, err := l.use(ctx, false)
		if err != nil {
			return err
		}
		if err = ask(s.client); err == nil || !s.broken(err) {
			return err
		}
		l.down(s)
	}
}

// maxStarts is how many supervisors may be lost during one start.
const maxStarts = 3

// start starts a container and keeps the duplicates. A supervisor that is lost
// meanwhile may have started it: the next one is used only after what ran was
// killed, so that it can be asked to start it.
func (l *link) start(ctx context.Context, w *wire.Start, filter []byte, files ...*os.File) (*supervisor.Started, error) {
	for attempt := 1; ; attempt++ {
		s, err := l.use(ctx, true)
		if err != nil {
			return nil, err
		}
		got, err := l.startBy(ctx, s, w, filter, files)
		s.starts.Done()
		if err == nil || attempt == maxStarts || !s.broken(err) {
			return got, err
		}
		l.down(s)
	}
}

func (l *link) startBy(ctx context.Context, s *session, w *wire.Start, filter []byte, files []*os.File) (got *supervisor.Started, err error) {
	if w.Filter, err = l.put(ctx, s, filter); err != nil {
		return nil, err
	}
	if got, err = s.client.Start(ctx, w, files...); err != nil {
		return nil, err
	}
	h := &hold{started: got, adopt: wire.Adopt{
		ID: w.ID, Pid: got.Pid, StartedAt: got.StartedAt, Terminal: w.Spec.Process.Terminal, Stdio: w.Stdio, Log: w.Log,
	}}
	if w.Spec.Linux != nil {
		h.adopt.Cgroup = w.Spec.Linux.CgroupsPath
	}
	l.hold(h)
	return got, nil
}

// exec starts a process in a container and keeps the duplicates. Where it cannot be
// known whether a supervisor that is lost meanwhile has started it, that fails.
func (l *link) exec(ctx context.Context, w *wire.Exec, filter []byte, files ...*os.File) (*supervisor.Started, error) {
	for {
		s, err := l.use(ctx, true)
		if err != nil {
			return nil, err
		}
		got, err := l.execBy(ctx, s, w, filter, files)
		s.starts.Done()
		if _, again := errors.AsType[*supervisor.NotSentError](err); !again || !s.broken(err) {
			return got, err
		}
		l.down(s)
	}
}

func (l *link) execBy(ctx context.Context, s *session, w *wire.Exec, filter []byte, files []*os.File) (got *supervisor.Started, err error) {
	if w.Filter, err = l.put(ctx, s, filter); err != nil {
		return nil, &supervisor.NotSentError{Err: err} // the exec was not
	}
	if got, err = s.client.Exec(ctx, w, files...); err != nil {
		return nil, err
	}
	l.hold(&hold{started: got, adopt: wire.Adopt{
		ID: w.ID, ExecID: w.ExecID, Pid: got.Pid, StartedAt: got.StartedAt, Terminal: w.Process.Terminal, Stdio: w.Stdio,
	}})
	return got, nil
}

// put hands a filter over unless the supervisor has it, and returns its name.
func (l *link) put(ctx context.Context, s *session, filter []byte) (string, error) {
	if len(filter) == 0 {
		return "", nil
	}
	name := string(digest.FromBytes(filter))
	l.mu.Lock()
	known := s.filters[name]
	l.mu.Unlock()
	if known {
		return name, nil
	}
	if err := s.client.PutFilter(ctx, &wire.PutFilter{Digest: name, Code: filter}); err != nil {
		return "", err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.filters[name] = true
	return name, nil
}

// hold keeps the duplicates of a process.
func (l *link) hold(h *hold) {
	k := process{h.adopt.ID, h.adopt.ExecID}
	l.mu.Lock()
	old := l.held[k]
	l.held[k] = h
	l.mu.Unlock()
	if old != nil {
		old.started.Close()
	}
}

// drop gives back what is held of an exec that ended, or with an empty exec of
// a container and all its execs.
func (l *link) drop(id, exec string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if exec != "" {
		if h := l.held[process{id, exec}]; h != nil {
			h.started.Close()
			delete(l.held, process{id, exec})
		}
		return
	}
	maps.DeleteFunc(l.held, func(k process, h *hold) bool {
		if k.id == id {
			h.started.Close()
		}
		return k.id == id
	})
}

// alive reports whether a container's first process, of which a duplicate is
// held, has not ended.
func (l *link) alive(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.held[process{id, ""}]
	if h == nil {
		return false
	}
	return unix.PidfdSendSignal(int(h.started.Pidfd.Fd()), 0, nil, 0) == nil
}

// holds returns what is held, containers before their execs.
func (l *link) holds() []*hold {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.SortedFunc(maps.Values(l.held), func(a, b *hold) int { return strings.Compare(a.adopt.ExecID, b.adopt.ExecID) })
}

// handOver gives a process to a supervisor that does not have it. Errors: as
// supervisor.Client.Adopt.
func (h *hold) handOver(ctx context.Context, c *supervisor.Client, frozen bool) error {
	a := h.adopt
	a.Frozen = frozen
	var files []*os.File
	add := func(f *os.File) wire.FD {
		if f == nil {
			return 0
		}
		files = append(files, f)
		return wire.FD(len(files))
	}
	a.Pidfd, a.Console = add(h.started.Pidfd), add(h.started.Console)
	a.Stdin, a.Stdout, a.Stderr = add(h.started.Stdin), add(h.started.Stdout), add(h.started.Stderr)
	got, err := c.Adopt(ctx, &a, files...)
	if err == nil {
		if a.Kept { // from now on we hold it, if it was there
			h.started.Console, got.Console = got.Console, nil
			h.adopt.Terminal, h.adopt.Kept = h.started.Console != nil, false
		}
		got.Close() // the same descriptors that we hold
	}
	return err
}

func (l *link) attach(ctx context.Context, a *wire.Attach, stream *os.File) error {
	return l.do(ctx, func(c *supervisor.Client) error { return c.Attach(ctx, a, stream) })
}

func (l *link) signal(ctx context.Context, s *wire.Signal) error {
	return l.do(ctx, func(c *supervisor.Client) error { return c.Signal(ctx, s) })
}

func (l *link) resize(ctx context.Context, id, exec string, height, width uint16) error {
	r := &wire.Resize{ID: id, ExecID: exec, Rows: height, Cols: width}
	return l.do(ctx, func(c *supervisor.Client) error { return c.Resize(ctx, r) })
}

func (l *link) freeze(ctx context.Context, id string, thaw bool) error {
	return l.do(ctx, func(c *supervisor.Client) error { return c.Freeze(ctx, &wire.Freeze{ID: id, Thaw: thaw}) })
}

func (l *link) update(ctx context.Context, u *wire.Update) error {
	return l.do(ctx, func(c *supervisor.Client) error { return c.Update(ctx, u) })
}

func (l *link) clearLog(ctx context.Context, id, path string) error {
	return l.do(ctx, func(c *supervisor.Client) error { return c.ClearLog(ctx, &wire.ClearLog{ID: id, Path: path}) })
}

// forget lets the supervisor drop an exit record. A failure is harmless: the
// exit is told again at the next connection.
func (l *link) forget(ctx context.Context, id, exec string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err := l.do(ctx, func(c *supervisor.Client) error { return c.Forget(ctx, &wire.Forget{ID: id, ExecID: exec}) })
	if err != nil && errdefs.KindOf(err) != errdefs.NotFound {
		l.log.Debug("exit record stays with the supervisor", "container", id, "error", err)
	}
}

// close ends the connection; l.ctx has ended. A supervisor with nothing to do
// is told to end.
func (l *link) close() error {
	l.keeper.Wait()
	l.mu.Lock()
	s := l.session
	for _, h := range l.held {
		h.started.Close()
	}
	clear(l.held)
	l.mu.Unlock()
	if s == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := s.client.Shutdown(ctx)
	if err != nil && !errors.Is(err, errdefs.Conflict) { // containers run: it stays for them
		l.log.Debug("the supervisor was not told to end", "error", err)
	}
	return s.client.Close()
}
