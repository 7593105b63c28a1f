package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/server"
)

// A request's header may take so much time and memory: it has credentials for a
// few registries at most. Bodies of JSON are bounded by the server, other bodies
// and answers have no bound: they are streams.
const (
	headerTimeout = time.Minute
	headerLimit   = 256 << 10 // bytes
)

// serveOptions is how serve ends and what it does meanwhile.
type serveOptions struct {
	Logger *slog.Logger
	// Shutdown is how long requests may take to end.
	Shutdown time.Duration
}

// serve answers on every listener until ctx ends or one fails. Then it takes no
// more connections, tells streams to end, waits for requests and cuts what is
// left after o.Shutdown. It closes the listeners.
func serve(ctx context.Context, h http.Handler, listeners []net.Listener, o serveOptions) error {
	streams, endStreams := context.WithCancelCause(context.WithoutCancel(ctx))
	defer endStreams(nil)
	stop, failed := context.WithCancelCause(ctx)
	defer failed(nil)

	var wg sync.WaitGroup
	defer wg.Wait()
	servers := make([]*http.Server, len(listeners))
	clients := newCrowd(connectionLimit())
	for i, l := range listeners {
		s := &http.Server{
			Handler:           h,
			ReadHeaderTimeout: headerTimeout,
			MaxHeaderBytes:    headerLimit,
			ConnState:         clients.note,
			ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
			BaseContext:       func(net.Listener) context.Context { return streams },
			Protocols:         new(http.Protocols),
		}
		s.Protocols.SetHTTP1(true) // connections must be ours to take over
		s.ConnContext = connections(isReadOnly(l), o.Logger)
		if l.Addr().Network() != "unix" {
			// A web page must not drive the engine through its reader's browser.
			s.Handler = http.NewCrossOriginProtection().Handler(h)
		}
		servers[i] = s
		wg.Go(func() {
			if err := s.Serve(clients.listen(l)); !errors.Is(err, http.ErrServerClosed) {
				failed(err)
			}
		})
		o.Logger.Info("API listen on "+l.Addr().String(), "network", l.Addr().Network(), "read-only", isReadOnly(l))
	}
	<-stop.Done()
	endStreams(errors.New("the daemon stops"))
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.Shutdown)
	defer cancel()
	var closing sync.WaitGroup
	for _, s := range servers {
		closing.Go(func() {
			if s.Shutdown(grace) != nil {
				s.Close() // cut: the time is up
			}
		})
	}
	closing.Wait()
	if ctx.Err() != nil {
		return nil // asked to stop
	}
	return context.Cause(stop)
}

// connections tells the server of each connection who has it and what he may.
// Who has it is asked for only where the log says it.
func connections(readOnly bool, log *slog.Logger) func(context.Context, net.Conn) context.Context {
	return func(ctx context.Context, c net.Conn) context.Context {
		of := server.Connection{ReadOnly: readOnly}
		if log.Enabled(ctx, slog.LevelDebug) {
			of.Peer = peerName(c)
			log.Debug("connection", "peer", of.Peer)
		}
		if of == (server.Connection{}) {
			return ctx
		}
		return server.WithConnection(ctx, of)
	}
}

// peerName describes the other end of a connection for the log.
func peerName(c net.Conn) string {
	if cred, err := peer(c); err == nil {
		return fmt.Sprintf("pid=%d uid=%d gid=%d", cred.Pid, cred.Uid, cred.Gid)
	}
	return c.RemoteAddr().String()
}

// peer tells who has the other end of a connection over a unix socket: the
// process that called connect(2), or listen(2). Its number is 0 when it is in
// another PID namespace (unix(7), SO_PEERCRED).
func peer(c net.Conn) (*unix.Ucred, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return cred, errors.Join(err, credErr)
}

// signals acts on the signals that a daemon gets: the returned context ends on
// SIGINT and SIGTERM (a second one ends the process at once), SIGHUP calls
// reload, SIGUSR1 writes all stacks to the log. stop ends it all.
func signals(ctx context.Context, log *slog.Logger, reload func()) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	c := make(chan os.Signal, 8)
	// SIGPIPE is caught, not ignored, so that children do not inherit it: a
	// reader of our log that goes away must not end us.
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGPIPE)
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case s := <-c:
				switch s {
				case syscall.SIGPIPE:
				case syscall.SIGHUP:
					log.Info("reload requested")
					reload()
				case syscall.SIGUSR1:
					log.Info("stacks", "dump", stacks())
				default:
					log.Info("stopping", "signal", s.String())
					cancel(errors.New("signal " + s.String()))
					signal.Reset(syscall.SIGINT, syscall.SIGTERM)
				}
			case <-quit:
				return
			}
		}
	})
	return ctx, func() {
		signal.Stop(c)
		close(quit)
		wg.Wait()
		cancel(nil)
	}
}

// stacks returns the stacks of all goroutines.
func stacks() string {
	for n := 1 << 16; ; n *= 2 {
		b := make([]byte, n)
		if m := runtime.Stack(b, true); m < n || n >= 64<<20 {
			return string(b[:m])
		}
	}
}
