package gate

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"lade/internal/errdefs"
)

// The control sockets in the engine's directory: a gate's, and that of one which is
// to take its place.
const (
	socketName = "gate.sock"
	nextName   = "gate-next.sock"
)

// idleExit is how long a gate without ports and connections waits for a daemon
// that is connected to open another one.
const idleExit = 10 * time.Second

// Server is a gate.
type Server struct {
	log   *slog.Logger
	build string
	root  string
	sock  *net.UnixListener

	mu      sync.Mutex
	name    string // of the control socket; "": it is given up
	ports   map[Key]*port
	serving int                        // ports that may still take a client, closed ones included
	conns   int                        // of clients
	daemons map[*net.UnixConn]struct{} // control connections
	retired bool                       // another gate is in its place
	idle    *time.Timer
	done    chan struct{} // closed when there is nothing left to do
	ended   bool
	wg      sync.WaitGroup
}

// Listen takes the control socket in a directory, or with next that of a gate which
// takes the place of another one when it is told. Errors: Conflict where a gate
// serves already.
func Listen(root, build string, next bool, log *slog.Logger) (*Server, error) {
	name := socketName
	if next {
		name = nextName
	}
	path := filepath.Join(root, name)
	if c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"}); err == nil {
		c.Close()
		return nil, errdefs.Conflictf("a gate serves %s already", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // of one that was killed
		return nil, err
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it may be another gate's by then
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	s := &Server{log: log, build: build, root: root, sock: l, name: name, ports: map[Key]*port{}, daemons: map[*net.UnixConn]struct{}{}, done: make(chan struct{})}
	s.idle = time.AfterFunc(idleExit, s.expire)
	return s, nil
}

// Run serves until there is nothing left to do: no port and no connection, and
// no daemon that could open one, or none that did for ten seconds. When ctx ends
// it returns at once; connections end with the process.
func (s *Server) Run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.endLocked()
	})
	defer stop()
	s.wg.Go(s.accept)
	<-s.done
	s.idle.Stop()
	s.mu.Lock()
	s.giveUpLocked()
	for k, p := range s.ports {
		p.close()
		delete(s.ports, k)
	}
	for c := range s.daemons {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// accept serves daemons.
func (s *Server) accept() {
	for {
		c, err := s.sock.AcceptUnix()
		if err != nil {
			return // closed
		}
		s.mu.Lock()
		s.daemons[c] = struct{}{}
		s.mu.Unlock()
		s.wg.Go(func() {
			err := s.talk(c)
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				s.log.Error("control connection", "error", err)
			}
			s.left(c)
		})
	}
}

// left notes that a daemon has gone. A gate that was to take another one's place,
// which goes on serving, is not needed then: the next daemon will start one.
func (s *Server) left(c *net.UnixConn) {
	s.mu.Lock()
	c.Close()
	delete(s.daemons, c)
	orphan := s.name == nextName && len(s.daemons) == 0
	s.mu.Unlock()
	orphan = orphan && s.another()
	s.mu.Lock()
	defer s.mu.Unlock()
	if orphan {
		s.retireLocked()
	}
	s.settleLocked()
}

// another reports whether a gate serves in the place that this one was to take.
func (s *Server) another() bool {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: filepath.Join(s.root, socketName), Net: "unixpacket"})
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// talk answers a daemon's requests until it leaves.
func (s *Server) talk(c *net.UnixConn) error {
	buf := make([]byte, maxMessage)
	for {
		m, f, err := receive(c, buf)
		if err != nil {
			return err
		}
		err = s.handle(c, m, f)
		if f != nil {
			f.Close()
		}
		answer := message{}
		if err != nil {
			answer.Error = err.Error()
		}
		if m.Op == opHello {
			answer.Build = s.build
		}
		if err := send(c, answer, nil); err != nil {
			return err
		}
	}
}

func (s *Server) handle(c *net.UnixConn, m message, f *os.File) error {
	switch {
	case m.Op == opHello:
		return nil
	case m.Op == opList:
		return s.list(c)
	case m.Op == opOpen && m.Port != nil:
		return s.open(*m.Port, f)
	case m.Op == opClose && m.Port != nil:
		s.mu.Lock()
		defer s.mu.Unlock()
		if p := s.ports[m.Port.Key()]; p != nil {
			delete(s.ports, m.Port.Key())
			p.close()
			if m.Abort {
				p.abortAll()
			}
			s.settleLocked()
		}
		return nil
	case m.Op == opRetire:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.retireLocked()
		return nil
	case m.Op == opTake:
		return s.take()
	}
	return errdefs.NotImplementedf("gate: unknown request %q", m.Op)
}

// list sends every port.
func (s *Server) list(c *net.UnixConn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.ports {
		f, err := p.file()
		if err != nil {
			return err
		}
		err = send(c, message{Port: p.port.Load()}, f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// open begins to serve a port, or changes one.
func (s *Server) open(q Port, f *os.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.ports[q.Key()]
	switch {
	case s.ended || s.retired:
		return errdefs.Unavailablef("gate: it is ending")
	case f == nil && old == nil:
		return errdefs.NotFoundf("gate: no port %s/%s", q.Host, q.Proto)
	case f == nil:
		old.port.Store(&q)
		return nil
	}
	p, err := s.newPort(q, f)
	if err != nil {
		return err
	}
	if old != nil {
		old.close()
	}
	s.ports[q.Key()] = p
	s.serving++
	s.wg.Go(func() {
		p.serve()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.serving--
		s.settleLocked()
	})
	s.idle.Stop()
	return nil
}

// retireLocked gives the control socket and the ports up: another gate has them.
func (s *Server) retireLocked() {
	s.retired = true
	s.giveUpLocked()
	for k, p := range s.ports {
		p.close()
		delete(s.ports, k)
	}
	s.settleLocked()
}

// giveUpLocked gives the control socket up. It is idempotent.
func (s *Server) giveUpLocked() {
	if s.name == "" {
		return
	}
	s.sock.Close()
	if err := os.Remove(filepath.Join(s.root, s.name)); err != nil {
		s.log.Warn("the control socket stays", "error", err)
	}
	s.name = ""
}

// take makes the control socket that of the gate, whose place is free.
func (s *Server) take() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.name != nextName {
		return nil
	}
	if err := os.Rename(filepath.Join(s.root, nextName), filepath.Join(s.root, socketName)); err != nil {
		return err
	}
	s.name = socketName
	return nil
}

// expire ends a server that nobody needs.
func (s *Server) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.busyLocked() {
		s.endLocked()
	}
}

// busyLocked reports whether a client is served or may yet come: a port that is
// being closed may have accepted one that is not counted yet.
func (s *Server) busyLocked() bool { return s.serving > 0 || s.conns > 0 }

// settleLocked ends the server when there is nothing left to do.
func (s *Server) settleLocked() {
	switch {
	case s.busyLocked():
	case len(s.daemons) == 0 || s.retired:
		s.endLocked()
	default:
		s.idle.Reset(idleExit)
	}
}

func (s *Server) endLocked() {
	if !s.ended {
		s.ended = true
		close(s.done)
	}
}

// connection counts one more connection of a client, or with -1 one less.
func (s *Server) connection(count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns += count
	s.settleLocked()
}
