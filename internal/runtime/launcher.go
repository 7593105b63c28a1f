package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/caps"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/ns"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/sys"
	"lade/internal/program"
	"lade/internal/trace"
)

// Launcher starts processes.
type Launcher struct {
	o      Options
	log    *slog.Logger
	host   facts
	groups *cgroup.Host // nil: no control groups on this host
	null   int          // the host's null device
	pidNS  int          // our own
	// empty is a mount namespace, of which containers get copies; visible that of
	// containers with a user namespace: see makeVisible.
	empty, visible namespace
	lockedSys      atomic.Bool // no sysfs can be writable; known when visible is there
	// attachLayers says that this kernel wants id-mapped layers attached.
	attachLayers atomic.Bool

	// observe sees every program that has run, for its time stamps; nil: nobody.
	observe func(*program.Program)

	stock stock
	ahead *ahead // nil: nothing is made ahead

	turns chan struct{} // has an element for each program that runs
	quit  chan struct{}

	mu    sync.Mutex
	arena []*program.Program // guarded by mu: not in use
}

// facts about the host do not change while a Launcher lives.
type facts struct {
	features func() sys.Features // asked only by those who mount an overlay: 0.1 ms
	lastCap  int
	permit   caps.Set // what this process may give away
	nested   bool     // it is in a user namespace
	noGroups bool     // … in which setgroups(2) is not allowed
	outer    bool     // … that does not own our pid namespace: who leaves that cannot return
	ignored  uint64   // signals that this process ignores: bit n-1 is signal n
	// our namespaces of these kinds, asked for only by those who join others or
	// have some of their own
	user, clocks func() (ns.ID, error)
}

// namespace is made when it is first needed.
type namespace struct {
	made bool // or it was tried
	fd   int
	err  error
	mu   sync.Mutex // guards the others
}

// open returns a descriptor, which is the namespace's.
func (n *namespace) open(make func() (int, error)) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.made {
		n.made = true
		n.fd, n.err = make()
	}
	return n.fd, n.err
}

// close closes it, if it was made.
func (n *namespace) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.made {
		sys.CloseAll(n.fd)
	}
}

// job is a program to run.
type job struct {
	p     *program.Program
	o     program.Options
	spawn bool // the child parks, in memory of its own
}

const defaultThreads = 4

// NewLauncher makes the process not dumpable. It needs root. The caller must
// Close.
func NewLauncher(o Options) (_ *Launcher, err error) {
	if o.Threads <= 0 {
		o.Threads = defaultThreads
	}
	l := &Launcher{o: o, log: o.Logger, null: -1, pidNS: -1, turns: make(chan struct{}, o.Threads), quit: make(chan struct{})}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("cannot prepare for starting containers: %w", err), l.Close())
		}
	}()
	// Until a child has executed it shares this process's memory, and those whose
	// namespaces it enters must not read it.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, sys.Error("prctl", "PR_SET_DUMPABLE", err)
	}
	l.host.nested = sys.Nested()
	l.ahead = l.newAhead(o.Ahead, o.Beside)
	if err := l.learn(); err != nil {
		return nil, err
	}
	if l.null, err = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return nil, sys.Error("open", "/dev/null", err)
	}
	if l.pidNS, err = ns.Open(0, unix.CLONE_NEWPID); err != nil {
		return nil, err
	}
	l.host.outer = l.host.nested && !ns.Owned(l.pidNS)
	if !o.Once {
		_, err = l.empty.open(ns.Empty)
	}
	return l, err
}

func (l *Launcher) learn() (err error) {
	l.host.features = sync.OnceValue(sys.Probe)
	if !sys.HasMountSetattr() {
		return errdefs.Unavailablef("the kernel has no mount_setattr(2)")
	}
	if l.host.nested {
		b, err := sys.ReadFile("/proc/self/setgroups")
		l.host.noGroups = err == nil && string(b) == "deny\n"
	}
	if l.host.lastCap, err = caps.Last(); err != nil {
		return err
	}
	if l.host.permit, err = caps.Permitted(); err != nil {
		return err
	}
	l.host.ignored = ignoredSignals()
	l.host.user = sync.OnceValues(func() (ns.ID, error) { return ns.Of(0, unix.CLONE_NEWUSER) })
	l.host.clocks = sync.OnceValues(func() (ns.ID, error) { return ns.Of(0, unix.CLONE_NEWTIME) })
	l.groups, err = cgroup.Detect()
	if errors.Is(err, errdefs.Unavailable) {
		l.log.Warn("no control groups", "error", err)
		err = nil
	}
	return err
}

// ignoredSignals returns which signals the process ignores: nohup(1) and the
// like leave such, and execve(2) would hand them on. To ask for all of them costs
// less than to read /proc/self/status.
func ignoredSignals() (set uint64) {
	const ignore = 1 // SIG_IGN
	for n := uintptr(1); n <= 64; n++ {
		var action [4]uintptr // struct sigaction: the handler comes first
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, n, 0, uintptr(unsafe.Pointer(&action)), 8, 0, 0)
		if errno == 0 && action[0] == ignore {
			set |= 1 << (n - 1)
		}
	}
	return set
}

// Close waits for starts under way. Started processes are not touched.
func (l *Launcher) Close() error {
	close(l.quit)
	for range cap(l.turns) { // none is left for others
		l.turns <- struct{}{}
	}
	sys.CloseAll(l.null, l.pidNS)
	l.stock.close()
	l.ahead.close()
	l.empty.close()
	l.visible.close()
	if l.groups != nil {
		l.groups.Close()
	}
	return l.free()
}

// Trim frees the memory that is kept for the next start.
func (l *Launcher) Trim() {
	if err := l.free(); err != nil {
		l.log.Warn("cannot free a start program", "error", err)
	}
}

func (l *Launcher) free() (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.arena {
		err = errors.Join(err, p.Close())
	}
	l.arena = nil
	return err
}

// run runs p. It waits for its turn until ctx ends; a program under way is not
// interrupted. A child that failed is reaped.
func (l *Launcher) run(ctx context.Context, p *program.Program, o program.Options, id string) (program.Result, error) {
	return l.submit(ctx, &job{p: p, o: o}, id)
}

// submit runs the job on the calling thread: to hand it to another one would
// cost two wake-ups, of 10 to 50 µs each.
func (l *Launcher) submit(ctx context.Context, j *job, id string) (program.Result, error) {
	span := trace.Begin(trace.Process, "clone3", id)
	select {
	case l.turns <- struct{}{}:
	case <-l.quit:
		return program.Result{}, span.End(errdefs.Unavailablef("shutting down"))
	case <-ctx.Done():
		return program.Result{}, span.End(context.Cause(ctx))
	}
	r, err := l.here(j)
	<-l.turns
	if l.observe != nil {
		l.observe(j.p)
	}
	if l.log.Enabled(ctx, slog.LevelDebug) {
		l.profile(ctx, j, id)
	}
	if err != nil && r.Pid > 0 {
		l.discard(r)
	}
	return r, span.End(err)
}

// here runs the job on the calling thread.
func (l *Launcher) here(j *job) (r program.Result, err error) {
	if j.o.PidNS >= 0 {
		// The thread enters the namespace for the clone. Should it not come back,
		// nobody may use it any more: it stays locked and ends with its goroutine.
		goruntime.LockOSThread()
		defer func() {
			if program.Lost(err) {
				l.log.Error("a thread is lost", "error", err)
				return
			}
			goruntime.UnlockOSThread()
		}()
	}
	if j.spawn {
		return j.p.Spawn(j.o)
	}
	return j.p.Run(j.o)
}

// worthALine is how long an op must take to be named in the log.
const worthALine = 50 * time.Microsecond

// profile logs what of a program took long.
func (l *Launcher) profile(ctx context.Context, j *job, id string) {
	for s := range j.p.Steps() {
		if s.Took >= worthALine {
			l.log.DebugContext(ctx, "start program", "id", id, "op", s.Call, "object", s.Object, "took", s.Took)
		}
	}
}

// discard ends and reaps a child whose start failed.
func (l *Launcher) discard(r program.Result) {
	defer sys.CloseAll(r.Pidfd)
	if err := pidfd.Signal(r.Pidfd, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		l.log.Warn("cannot kill a failed child", "pid", r.Pid, "error", err)
	}
	if _, _, err := pidfd.Wait(r.Pidfd); err != nil {
		l.log.Warn("cannot reap a failed child", "pid", r.Pid, "error", err)
	}
}

// take returns an empty program; give takes it back.
func (l *Launcher) take() (*program.Program, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.arena); n > 0 {
		p := l.arena[n-1]
		l.arena = l.arena[:n-1]
		return p, nil
	}
	return program.New(program.Vfork)
}

func (l *Launcher) give(p *program.Program) {
	p.Reset()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.arena) < l.o.Threads && !l.o.Once {
		l.arena = append(l.arena, p)
		return
	}
	if err := p.Close(); err != nil {
		l.log.Warn("cannot free a start program", "error", err)
	}
}

// cleanUpTime bounds the clean-up after a failure.
const cleanUpTime = 10 * time.Second
