package daemon

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"lade/internal/errdefs"
	"lade/internal/linux/service"
	"lade/internal/logs/relay"
	"lade/internal/supervisor/wire"
)

const (
	// relayIdle is how long the relay stays when neither a log nor a daemon is
	// connected.
	relayIdle = time.Second
	// relayPause is between attempts to have one.
	relayPause = time.Second
)

// serveRelay is `laded log-relay`, the process that relayKeeper starts. It returns
// the exit code.
func serveRelay(ctx context.Context, args []string, stderr io.Writer) int {
	f := pflag.NewFlagSet("laded log-relay", pflag.ContinueOnError)
	f.SetOutput(stderr)
	socket := f.String("socket", "", "where to listen")
	if f.Parse(args) != nil {
		return 125
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	l, err := listenRelay(*socket)
	if err == nil {
		err = service.Detach("")
	}
	if err == nil {
		err = relay.Serve(ctx, l, relay.Options{Idle: relayIdle, Logger: log})
	}
	if err != nil {
		log.Error("log relay", "error", err)
		return 1
	}
	return 0
}

// listenRelay listens in place of a relay that is gone. Errors: Conflict if one
// answers.
func listenRelay(path string) (*net.UnixListener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, errdefs.Conflictf("another log relay answers at %s", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	old := syscall.Umask(0o177) // before the first goroutine
	defer syscall.Umask(old)
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}

// relayKeeper sees to it that there is a log relay from the first container that
// needs one: it starts the process, which outlives us, stays connected, and
// starts another when the connection ends.
type relayKeeper struct {
	ctx    context.Context
	cancel context.CancelFunc
	socket string
	log    *slog.Logger
	work   sync.WaitGroup

	mu      sync.Mutex
	started bool
}

func newRelayKeeper(ctx context.Context, execRoot string, log *slog.Logger) *relayKeeper {
	k := &relayKeeper{socket: filepath.Join(execRoot, wire.RelayName), log: log}
	k.ctx, k.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if _, err := os.Stat(k.socket); err == nil { // logs of containers that run go over it
		k.need()
	}
	return k
}

// need returns the relay's socket. It does not wait for the relay: logs do.
func (k *relayKeeper) need() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.started {
		k.started = true
		k.work.Go(k.keep)
	}
	return k.socket
}

func (k *relayKeeper) keep() {
	for k.ctx.Err() == nil {
		c, err := net.Dial("unix", k.socket)
		if err != nil {
			err = k.start()
		}
		if err == nil && c != nil {
			k.watch(c)
			continue
		}
		if err != nil {
			k.log.Error("the log relay does not start", "error", err)
			t := time.NewTimer(relayPause)
			select {
			case <-t.C:
			case <-k.ctx.Done():
				t.Stop()
			}
		}
	}
}

// watch returns when the relay is gone.
func (k *relayKeeper) watch(c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(k.ctx, func() { c.Close() })()
	_, _ = c.Read(make([]byte, 1)) // it says nothing to us
	if k.ctx.Err() == nil {
		k.log.Warn("the log relay is gone; another is started")
	}
}

// start starts a relay and returns when it listens. What it logs goes where our
// log goes.
func (k *relayKeeper) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "log-relay", "--socket", k.socket)
	cmd.Stderr = os.Stderr
	return service.Start(k.ctx, cmd)
}

// close ends the keeper. The relay goes on while a log needs it.
func (k *relayKeeper) close() {
	k.cancel()
	k.work.Wait()
}
