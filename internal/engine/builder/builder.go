package builder

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"lade/internal/build"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/linux/cgroup"
	"lade/internal/network"
	"lade/internal/snapshot"
)

const (
	// idle is Config.Idle unless that is set.
	idle = 5 * time.Minute
	// grace is how long lade-build may take to end before it is killed.
	grace = 10 * time.Second
)

// Programs are the files that a builder runs.
type Programs struct {
	Build   string // lade-build
	Runtime string // lade-runtime
}

// Config is what a builder is made of.
type Config struct {
	Programs
	Version   string
	Root      string // directory of the cache; made when something is built
	Run       string // directory of sockets and of what must not outlive the machine
	Blobs     string // directory of the content store's blobs
	Images    *image.Images
	Snapshots snapshot.Snapshotter
	Networks  *network.Networks
	Cgroups   *cgroup.Host
	// Group is the path of the control group below which those of steps are.
	Group string
	// Pull is ImagePull.
	Pull func(ctx context.Context, q build.ImageRequest, tell image.Progress) error
	// Settings fills in what the operator may change while the engine runs.
	Settings func(*build.Config)
	// Publish tells the event log what happened to an image.
	Publish func(action events.Action, id, name string)
	// Idle is how long lade-build stays when nobody is connected; 0: five minutes.
	Idle   time.Duration
	Logger *slog.Logger
}

// Builder is the engine's part of building.
type Builder struct {
	c     Config
	lease *image.Lease // what the cache uses of ours

	mu       sync.Mutex
	closed   bool
	listener *net.UnixListener // nil: nothing was built yet
	file     *os.File          // its descriptor, for lade-build
	host     *host
	running  *process // nil: lade-build does not run
	users    int      // connections
	leave    *time.Timer
}

// process is a lade-build that runs.
type process struct {
	cmd  *exec.Cmd
	life *os.File // closing it ends lade-build
	done chan struct{}
	// ending is that life was closed because nobody is connected; guarded by mu.
	ending bool
}

// New returns a builder, which has started nothing. It must be called before
// garbage is collected.
func New(c Config) *Builder {
	return &Builder{c: c, lease: c.Images.Lasting("build")}
}

// Recover takes back what a lade-build of an earlier laded has left. Endpoints
// are released by (*network.Networks).Restore.
func (b *Builder) Recover(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.clear(ctx)
}

// Dial connects with lade-build, which is started if it does not run. Errors:
// Unavailable, also if there is no such program.
func (b *Builder) Dial(ctx context.Context) (net.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.begin(ctx); err != nil {
		return nil, err
	}
	// While mu is held: the connections of a lade-build that has ended are refused
	// (watch) before or after this, and the caller does not wait for nobody.
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", b.socket())
	if err != nil {
		b.endLocked()
		return nil, errdefs.Unavailablef("the builder does not answer: %w", err)
	}
	return &conn{Conn: c, end: sync.OnceFunc(b.end)}, nil
}

// conn is a connection with lade-build, which stays as long as there is one.
type conn struct {
	net.Conn
	end func()
}

// Close ends the connection.
func (c *conn) Close() error {
	defer c.end()
	return c.Conn.Close()
}

// CloseWrite tells lade-build that nothing more comes.
func (c *conn) CloseWrite() error { return c.Conn.(*net.UnixConn).CloseWrite() }

// Kept reports whether there is a cache, so that asking lade-build for it is
// worth starting it.
func (b *Builder) Kept() bool {
	_, err := os.Stat(b.c.Root)
	return err == nil
}

// begin counts a user in. The caller holds mu, which is given up while a
// lade-build that was told to end does so.
func (b *Builder) begin(ctx context.Context) error {
	for p := b.running; p != nil && p.ending; p = b.running {
		b.mu.Unlock()
		select {
		case <-p.done:
		case <-ctx.Done():
		}
		b.mu.Lock()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if b.closed {
		return errdefs.Unavailablef("the engine is shutting down")
	}
	if b.running == nil {
		if err := b.start(ctx); err != nil {
			return err
		}
	}
	b.users++
	if b.leave != nil {
		b.leave.Stop()
		b.leave = nil
	}
	return nil
}

// end counts a user out; the last one is followed by the end of lade-build, in a
// while.
func (b *Builder) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endLocked()
}

func (b *Builder) endLocked() {
	if b.users--; b.users > 0 || b.running == nil || b.closed {
		return
	}
	p := b.running
	b.leave = time.AfterFunc(cmp.Or(b.c.Idle, idle), func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.users == 0 && b.running == p {
			p.ending = true
			_ = p.life.Close() // a second Close of it does nothing
		}
	})
}

func (b *Builder) socket() string { return filepath.Join(b.c.Run, "build.sock") }

// start starts lade-build. The caller holds mu.
func (b *Builder) start(ctx context.Context) error {
	if _, err := os.Stat(b.c.Build); errors.Is(err, fs.ErrNotExist) {
		return errdefs.Unavailablef("images cannot be built: lade-build is not installed beside laded (%s)", b.c.Build)
	}
	if err := b.open(); err != nil {
		return err
	}
	c := build.Config{
		Version: b.c.Version, Root: b.c.Root, Run: b.c.Run, Host: b.host.path, Blobs: b.c.Blobs, Runtime: b.c.Runtime,
		CgroupParent: b.c.Group, Links: b.c.Snapshots.Name() == "overlay2",
	}
	b.c.Settings(&c)
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	in, life, err := os.Pipe()
	if err != nil {
		return err
	}
	defer in.Close()
	cmd := exec.Command(b.c.Build, build.ServeVerb, b.c.Run) // which says whose it is
	cmd.Stdin, cmd.Stderr, cmd.Dir = in, os.Stderr, "/"
	cmd.ExtraFiles = []*os.File{build.ListenerFD - 3: b.file}
	cmd.Env = append(os.Environ(), "LADE_RUNTIME_ROOT="+filepath.Join(b.c.Run, "runtime"))
	// Its mounts are its own: they go when its last process does, whatever ends it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Unshareflags: syscall.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		life.Close()
		return errdefs.Unavailablef("the builder does not start: %w", err)
	}
	b.host.answerTo(cmd.Process.Pid) // before it knows where to ask
	p := &process{cmd: cmd, life: life, done: make(chan struct{})}
	go b.watch(context.WithoutCancel(ctx), p)
	if _, err := life.Write(append(line, '\n')); err != nil {
		life.Close()
		return errdefs.Unavailablef("the builder does not start: %w", err)
	}
	b.running = p
	return nil
}

// open makes the sockets, once. The caller holds mu.
func (b *Builder) open() (err error) {
	if b.listener != nil {
		return nil
	}
	if err := os.MkdirAll(b.c.Run, 0o700); err != nil {
		return err
	}
	if err := os.MkdirAll(b.c.Root, 0o700); err != nil {
		return err
	}
	if b.host, err = newHost(b); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.host.close())
		}
	}()
	if b.listener, err = listen(b.socket()); err != nil {
		return err
	}
	if b.file, err = b.listener.File(); err != nil {
		err = errors.Join(err, b.listener.Close())
		b.listener = nil
	}
	return err
}

// listen listens where a laded of before may have listened. The directory is
// root's alone.
func listen(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}

// watch waits for the end of lade-build and clears up after it.
func (b *Builder) watch(ctx context.Context, p *process) {
	defer close(p.done)
	err := p.cmd.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = p.life.Close() // which may have been what ended it
	if err != nil && !b.closed {
		b.c.Logger.Warn("the builder has ended", "error", err)
	}
	if b.running == p {
		b.running = nil
	}
	b.refuse()
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if err := b.clear(ctx); err != nil {
		b.c.Logger.Warn("what the builder has left could not be removed", "error", err)
	}
}

// refuse closes the connections that the lade-build that is gone has not
// accepted. The caller holds mu.
func (b *Builder) refuse() {
	// exec.Cmd makes what it passes on blocking, for both of us, and a lade-build
	// that ended at once has not changed that: accept(2) would wait for ever.
	raw, err := b.listener.SyscallConn()
	if err != nil || raw.Control(func(fd uintptr) { err = unix.SetNonblock(int(fd), true) }) != nil || err != nil {
		return
	}
	if b.listener.SetDeadline(time.Now().Add(time.Millisecond)) != nil {
		return
	}
	for {
		c, err := b.listener.Accept()
		if err != nil {
			return
		}
		c.Close()
	}
}

// clear takes back what a lade-build that is gone had. The caller holds mu.
func (b *Builder) clear(ctx context.Context) error {
	var errs []error
	g, err := b.c.Cgroups.Open(b.c.Group)
	switch {
	case err == nil:
		errs = append(errs, g.Kill(ctx), g.Delete(ctx), b.removeParent())
	case errdefs.KindOf(err) != errdefs.NotFound:
		errs = append(errs, err)
	}
	if b.host != nil {
		errs = append(errs, b.host.disconnectAll(ctx))
	}
	errs = append(errs, os.RemoveAll(filepath.Join(b.c.Run, "runtime")))
	return errors.Join(errs...)
}

// removeParent removes the group in which that of the builder was, unless there
// are containers in it.
func (b *Builder) removeParent() error {
	g, err := b.c.Cgroups.Open(path.Dir(b.c.Group))
	if err != nil {
		return nil // somebody else has removed it
	}
	return g.RemoveEmpty()
}

// Close ends lade-build, and with it what is being built.
func (b *Builder) Close() error {
	b.mu.Lock()
	b.closed = true
	p, host, listener := b.running, b.host, b.listener
	b.mu.Unlock()
	if p != nil {
		_ = p.life.Close() // which watch may have closed already
		kill := time.AfterFunc(grace, func() { _ = p.cmd.Process.Kill() })
		<-p.done
		kill.Stop()
	}
	if listener == nil {
		return nil
	}
	err := errors.Join(host.close(), listener.Close(), b.file.Close())
	return errors.Join(err, os.RemoveAll(b.c.Run))
}

// Client returns a client of lade-build's own API.
func (b *Builder) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return b.Dial(ctx) },
		DisableKeepAlives: true, // an open connection keeps lade-build alive
	}}
}
