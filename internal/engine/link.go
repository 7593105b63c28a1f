package engine

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/supervisor"
	"lade/internal/supervisor/wire"
)

// ConnectFunc connects with the supervisor, starting one if none answers.
type ConnectFunc func(ctx context.Context, h supervisor.Handler) (*supervisor.Client, wire.Welcome, error)

// link is the engine's connection with its supervisor. When the supervisor is
// lost it connects with a new one and hands over what runs: it holds
// duplicates of everything that the new one needs.
type link struct {
	connect ConnectFunc
	handler supervisor.Handler
	log     *slog.Logger

	mu     sync.Mutex
	client *supervisor.Client
	// filters are the seccomp filters that the present supervisor has.
	filters map[string]bool
	// held are the duplicates of running containers, by id.
	held map[string]*hold
	// ready is closed when client may be used; replaced while reconnecting.
	ready  chan struct{}
	closed bool
}

// hold is what a new supervisor needs to carry on with a container.
type hold struct {
	started *supervisor.Started
	adopt   wire.Adopt // without descriptors
}

func (h *hold) close() { h.started.Close() }

// open makes the first connection.
func (l *link) open(ctx context.Context) (wire.Welcome, error) {
	c, w, err := l.connect(ctx, l.handler)
	if err != nil {
		return w, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.client, l.filters = c, map[string]bool{}
	close(l.ready)
	return w, nil
}

// use returns the client, waiting while a lost supervisor is replaced.
func (l *link) use(ctx context.Context) (*supervisor.Client, error) {
	l.mu.Lock()
	ready := l.ready
	l.mu.Unlock()
	select {
	case <-ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client == nil || l.closed {
		return nil, errdefs.Unavailablef("the supervisor is not there")
	}
	return l.client, nil
}

// replace connects with a new supervisor after the old one was lost, and hands
// over every held container. lost is told which could not be.
func (l *link) replace(ctx context.Context, lost func(id string, err error)) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	old := l.client
	l.client, l.ready = nil, make(chan struct{})
	ready := l.ready
	l.mu.Unlock()
	defer close(ready)
	if old != nil {
		old.Close()
	}
	c, w, err := l.connect(ctx, l.handler)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.client, l.filters = c, map[string]bool{}
	held := make(map[string]*hold, len(l.held))
	for id, h := range l.held {
		held[id] = h
	}
	l.mu.Unlock()
	live := map[string]bool{}
	for _, x := range w.Containers {
		live[x.ID] = true
	}
	for id, h := range held {
		if live[id] {
			continue
		}
		if err := l.adopt(ctx, c, h); err != nil {
			lost(id, err)
		}
	}
	for _, x := range w.Exits {
		l.handler.Exited(x)
	}
	return nil
}

// adopt hands one container over.
func (l *link) adopt(ctx context.Context, c *supervisor.Client, h *hold) error {
	a := h.adopt
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
	_, err := c.Adopt(ctx, &a, files...)
	return err
}

// start starts a container and keeps the duplicates.
func (l *link) start(ctx context.Context, s *wire.Start, filter []byte, files ...*os.File) (*supervisor.Started, error) {
	c, err := l.use(ctx)
	if err != nil {
		return nil, err
	}
	if s.Filter, err = l.put(ctx, c, filter); err != nil {
		return nil, err
	}
	got, err := c.Start(ctx, s, files...)
	if err != nil {
		return nil, err
	}
	h := &hold{started: got, adopt: wire.Adopt{
		ID: s.ID, Pid: got.Pid, StartedAt: got.StartedAt, Terminal: s.Spec.Process.Terminal, Stdio: s.Stdio, Log: s.Log,
	}}
	if s.Spec.Linux != nil {
		h.adopt.Cgroup = s.Spec.Linux.CgroupsPath
	}
	l.hold(s.ID, h)
	return got, nil
}

// put hands a filter over unless the supervisor has it, and returns its name.
func (l *link) put(ctx context.Context, c *supervisor.Client, filter []byte) (string, error) {
	if len(filter) == 0 {
		return "", nil
	}
	name := string(digest.FromBytes(filter))
	l.mu.Lock()
	known := l.filters[name]
	l.mu.Unlock()
	if known {
		return name, nil
	}
	if err := c.PutFilter(ctx, &wire.PutFilter{Digest: name, Code: filter}); err != nil {
		return "", err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client == c {
		l.filters[name] = true
	}
	return name, nil
}

func (l *link) hold(id string, h *hold) {
	l.mu.Lock()
	old := l.held[id]
	l.held[id] = h
	l.mu.Unlock()
	if old != nil {
		old.close()
	}
}

// drop gives back what is held of a container that ended.
func (l *link) drop(id string) {
	l.mu.Lock()
	h := l.held[id]
	delete(l.held, id)
	l.mu.Unlock()
	if h != nil {
		h.close()
	}
}

func (l *link) exec(ctx context.Context, x *wire.Exec, filter []byte, files ...*os.File) (*supervisor.Started, error) {
	c, err := l.use(ctx)
	if err != nil {
		return nil, err
	}
	if x.Filter, err = l.put(ctx, c, filter); err != nil {
		return nil, err
	}
	return c.Exec(ctx, x, files...)
}

func (l *link) attach(ctx context.Context, a *wire.Attach, stream *os.File) error {
	c, err := l.use(ctx)
	if err != nil {
		return err
	}
	return c.Attach(ctx, a, stream)
}

func (l *link) signal(ctx context.Context, s *wire.Signal) error {
	c, err := l.use(ctx)
	if err != nil {
		return err
	}
	return c.Signal(ctx, s)
}

func (l *link) resize(ctx context.Context, id, exec string, height, width uint16) error {
	c, err := l.use(ctx)
	if err != nil {
		return err
	}
	return c.Resize(ctx, &wire.Resize{ID: id, ExecID: exec, Rows: height, Cols: width})
}

func (l *link) freeze(ctx context.Context, id string, thaw bool) error {
	c, err := l.use(ctx)
	if err != nil {
		return err
	}
	return c.Freeze(ctx, &wire.Freeze{ID: id, Thaw: thaw})
}

func (l *link) update(ctx context.Context, u *wire.Update) error {
	c, err := l.use(ctx)
	if err != nil {
		return err
	}
	return c.Update(ctx, u)
}

// forget lets the supervisor drop an exit record. A failure is harmless: the
// exit is told again at the next connection.
func (l *link) forget(ctx context.Context, id, exec string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	c, err := l.use(ctx)
	if err == nil {
		err = c.Forget(ctx, &wire.Forget{ID: id, ExecID: exec})
	}
	if err != nil && errdefs.KindOf(err) != errdefs.NotFound {
		l.log.Debug("exit record stays with the supervisor", "container", id, "error", err)
	}
}

// close ends the connection. A supervisor with nothing to do is told to end.
func (l *link) close() error {
	l.mu.Lock()
	c, held := l.client, l.held
	l.closed, l.held = true, map[string]*hold{}
	l.mu.Unlock()
	for _, h := range held {
		h.close()
	}
	if c == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := c.Shutdown(ctx)
	if errors.Is(err, errdefs.Conflict) { // containers run: it stays for them
		err = nil
	}
	if err != nil {
		l.log.Debug("the supervisor was not told to end", "error", err)
	}
	return c.Close()
}
