package daemon

import (
	"net"
	"net/http"
	"sync"

	"golang.org/x/sys/unix"
)

// mostConnections is how many clients may be connected at a time. Those beyond
// wait in the kernel's queue until another leaves: what the daemon needs for its
// own work is not theirs to take.
const mostConnections = 1 << 14

// connectionLimit returns the number for this process: three quarters of the
// descriptors that it may have, if that is less.
func connectionLimit() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur/4*3 >= mostConnections {
		return mostConnections
	}
	return max(int(l.Cur/4*3), 16)
}

// crowd counts the connections of an HTTP server, over all its listeners.
type crowd struct{ free chan struct{} }

func newCrowd(most int) *crowd {
	c := &crowd{free: make(chan struct{}, most)}
	for range most {
		c.free <- struct{}{}
	}
	return c
}

// note is a server's ConnState. A connection that was taken over is the engine's
// and the supervisor's, and counts no more.
func (c *crowd) note(_ net.Conn, s http.ConnState) {
	if s == http.StateClosed || s == http.StateHijacked {
		c.free <- struct{}{}
	}
}

// listen returns a listener that accepts only where there is room. Every
// connection that it accepts must be noted when it ends.
func (c *crowd) listen(l net.Listener) net.Listener {
	return &crowdListener{Listener: l, crowd: c, closed: make(chan struct{})}
}

type crowdListener struct {
	net.Listener
	crowd  *crowd
	once   sync.Once
	closed chan struct{}
}

// Accept waits for room and for a client. The connection is the listener's own:
// it may be a TLS one, and may be taken over.
func (l *crowdListener) Accept() (net.Conn, error) {
	select {
	case <-l.crowd.free:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		l.crowd.free <- struct{}{}
	}
	return c, err
}

// Close stops listening.
func (l *crowdListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}
