package server

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/idmap"
	"lade/internal/logs"
	"lade/internal/runtime"
	"lade/internal/supervisor/wire"
)

// Launcher starts processes; *runtime.Launcher is the one there is. Start and
// Exec are called by several goroutines at a time. A Process without a Cgroup
// cannot be frozen or updated.
type Launcher interface {
	Start(ctx context.Context, c *runtime.Container) (*runtime.Process, error)
	Exec(ctx context.Context, e *runtime.Exec) (*runtime.Process, error)
	// Restock makes beforehand what the next start needs. It is called, by the
	// goroutine of a start, when that one has been answered.
	Restock()
	// Trim frees what is kept for the next start and soon made again.
	Trim()
}

// Options configure a Server.
type Options struct {
	Root     string // directory of the socket and the exit records, on a tmpfs
	Launcher Launcher
	Logger   *slog.Logger
	// NewUser makes a user namespace, as runtime.Launcher does.
	NewUser func(ctx context.Context, ids idmap.Map, net bool) (user, netns int, err error)
	// Foreign returns the container of another runtime: with r a new one, without
	// the one of that id, of which a former supervisor may have left a bundle; then
	// NotFound if there is none. nil: there are no other runtimes.
	Foreign func(id string, r *wire.Runtime) (Foreign, error)
	// Cgroup opens a control group by its path in a spec, for Adopt.
	Cgroup func(path string) (*cgroup.Group, error)
	Build  string // told in Welcome
	// ResolvConf is the host's file; "" means /etc/resolv.conf.
	ResolvConf string
	// Abroad is how long other hosts have to say whether they know a name, before the
	// servers outside are asked; 0: 50 ms.
	Abroad time.Duration
	// State is what TakeState returned; not 0: go on with the containers of the
	// process's former program.
	State int
	// Socket is a listening seqpacket socket in Root that a service manager has
	// opened, and keeps: it is not removed at the end. 0: the server makes its own.
	Socket int
	// Keeper keeps terminals for the next supervisor; nil: nobody does.
	Keeper Keeper
	// Kept are those that it has kept for this one, by name; the server's to close.
	Kept map[string]int
	// IdleExit is how long the server goes on with nothing to watch and nobody
	// connected; 0: for ever.
	IdleExit time.Duration
	// Parallel is how many starts run at the same time; 0 means 4.
	Parallel int
	// MaxQueue is how much output waits for a client that does not read before
	// the process is no longer read from, in bytes; 0 means 1 MB.
	MaxQueue int
}

// key names a container (no exec) or an exec.
type key struct{ id, exec string }

// Server supervises containers. Its state belongs to the goroutine that calls
// Run.
type Server struct {
	o     Options
	log   *slog.Logger
	poll  *poller
	lock  int // flock(2) on the root
	sock  int
	began time.Time

	conns      map[*conn]struct{}
	containers map[string]*container
	exits      map[key]wire.Exited
	parting    map[key]*process // ended execs whose clients still wait
	kept       map[string]int   // Options.Kept, as far as nobody has asked for them
	filters    map[string][]byte
	groups     map[string]string    // of containers, their control groups: groups.go
	parents    map[string]bool      // of groups; whether they are ours
	askedFor   map[string]bool      // containers whose parent group is not the daemon's own
	cleaning   map[string][]func()  // by container: starts that wait for the end of its clean-up
	streams    map[*stream]struct{} // open ones, also of ended processes
	outlets    map[*outlet]struct{} // as streams

	names names

	asides   []aside  // work of logs; the first is under way
	starts   int      // running in a goroutine
	calls    int      // of other runtimes, outside of starts
	waiting  []func() // starts that wait for their turn
	orphans  int      // starts whose daemon has left
	greeting []func() // Hellos that wait for orphans

	io     []byte // a stdcopy header and what was read from a process
	large  []byte // as io, for who prints much; nil: nobody does
	packet []byte
	lines  logs.Buffer
	ending bool
	warned time.Time

	activity uint64         // counts connections, starts, and reads of much output
	idling   bool           // a timer of checkIdle runs
	trimming bool           // a timer of trim runs
	unreaped bool           // there may be orphans
	children chan os.Signal // SIGCHLD; nil: not of interest
}

const (
	headerLen = 8 // of a stdcopy frame
	readLen   = 64 << 10
)

// New takes the root and listens on its socket. The caller must Run. Errors:
// Conflict if another server has the root.
func New(o Options) (*Server, error) {
	if o.Parallel == 0 {
		o.Parallel = 4
	}
	if o.MaxQueue == 0 {
		o.MaxQueue = 1 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		o: o, log: o.Logger, lock: -1, sock: -1, began: time.Now(),
		conns: map[*conn]struct{}{}, containers: map[string]*container{}, exits: map[key]wire.Exited{}, parting: map[key]*process{},
		askedFor: map[string]bool{}, filters: map[string][]byte{}, cleaning: map[string][]func(){}, streams: map[*stream]struct{}{}, outlets: map[*outlet]struct{}{},
		kept: o.Kept, io: newBuffer(readLen), packet: make([]byte, wire.PacketLen),
	}
	s.names.init(s)
	var err error
	if o.State != 0 {
		err = s.restore(o.State)
	} else {
		err = s.open()
	}
	if err == nil {
		err = s.loadGroups()
	}
	if err != nil {
		s.close()
		return nil, err
	}
	s.watchRoot()
	return s, nil
}

// open takes the root for the first time.
func (s *Server) open() (err error) {
	if err := os.MkdirAll(s.exitDir(), 0o700); err != nil {
		return err
	}
	if s.lock, err = s.takeLock(); err != nil {
		return err
	}
	if err := s.loadExits(); err != nil {
		return err
	}
	if s.poll, err = newPoller(); err != nil {
		return err
	}
	if s.sock = s.o.Socket; s.sock == 0 {
		if s.sock, err = wire.Listen(s.o.Root); err != nil {
			return err
		}
	}
	return s.poll.set(s.sock, listener{s}, unix.EPOLLIN)
}

// close releases what open took. A socket of our own is removed while the lock
// is held.
func (s *Server) close() {
	if s.children != nil {
		signal.Stop(s.children)
		close(s.children)
	}
	if s.sock >= 0 {
		if s.o.Socket == 0 {
			_ = os.Remove(filepath.Join(s.o.Root, wire.SocketName)) // the next server removes it, too
		}
		unix.Close(s.sock)
	}
	if s.poll != nil {
		s.poll.close()
	}
	if s.lock >= 0 {
		unix.Close(s.lock)
	}
}

// Run serves until Shutdown, Terminate or IdleExit. Errors: of epoll_wait(2).
func (s *Server) Run() error {
	defer s.close()
	s.checkIdle()
	s.trim()
	for !s.ending {
		if err := s.poll.once(); err != nil {
			return err
		}
	}
	for c := range s.conns {
		c.close()
	}
	s.removeParents()
	s.log.Info("ended")
	return nil
}

// Terminate ends the server if nothing runs, as SIGTERM asks for. It may be
// called from any goroutine.
func (s *Server) Terminate() {
	s.poll.post(func() {
		if err := s.shutdown(); err != nil {
			s.log.Warn("asked to terminate", "refused", err)
		}
	})
}

func (s *Server) shutdown() error {
	if n := len(s.containers) + s.starts + len(s.waiting); n > 0 {
		return errdefs.Conflictf("%d containers run", n)
	}
	if len(s.cleaning) > 0 || len(s.outlets) > 0 { // control groups are being removed, logs sent
		s.poll.after(10*time.Millisecond, func() { _ = s.shutdown() })
		return nil
	}
	s.ending = true
	return nil
}

// busy reports whether there is something to watch or somebody connected.
func (s *Server) busy() bool {
	return len(s.conns) > 0 || len(s.containers) > 0 || s.starts > 0 || len(s.waiting) > 0 || s.calls > 0 || len(s.cleaning) > 0 || len(s.streams) > 0 || len(s.outlets) > 0
}

// checkIdle ends the server when it was not busy for IdleExit. It is called
// whenever something ends.
func (s *Server) checkIdle() {
	if s.o.IdleExit == 0 || s.idling || s.busy() {
		return
	}
	s.idling = true
	seen := s.activity
	s.poll.after(s.o.IdleExit, func() {
		s.idling = false
		switch {
		case s.busy():
		case s.activity != seen:
			s.checkIdle()
		default:
			s.log.Info("nothing to do", "for", s.o.IdleExit)
			s.ending = true
		}
	})
}

// launch runs f in a goroutine, not more than Parallel at a time, and then
// done in the loop.
func (s *Server) launch(f, done func()) {
	if s.starts >= s.o.Parallel {
		s.waiting = append(s.waiting, func() { s.launch(f, done) })
		return
	}
	s.starts++
	s.activity++
	go func() {
		f()
		s.poll.post(func() {
			s.starts--
			if len(s.waiting) > 0 {
				next := s.waiting[0]
				s.waiting = s.waiting[1:]
				next()
			}
			done()
			s.settled()
		})
		s.o.Launcher.Restock()
	}()
}

// settled is called after each launch.
func (s *Server) settled() {
	if s.orphans == 0 {
		for _, hello := range s.greeting {
			hello()
		}
		s.greeting = nil
	}
	if s.unreaped {
		s.reapOrphans()
	}
	s.trim()
	s.checkIdle()
}

// warn logs a failure that may come back with every line of output, not more
// than once in a while.
func (s *Server) warn(msg string, args ...any) {
	if now := time.Now(); now.Sub(s.warned) > 10*time.Second {
		s.warned = now
		s.log.Warn(msg, args...)
	}
}
