package authz

import (
	"bufio"
	"errors"
	"net"
	"net/http"
)

// errDenied ends a handler whose answer is not wanted.
var errDenied = errors.New("the answer was not authorized")

// gate holds an answer back until it was asked for.
type gate struct {
	to  http.ResponseWriter
	ask func(status int, h http.Header, body []byte) error

	status int // 0: no header yet
	held   []byte
	open   bool // asked and allowed
	denied bool // asked and answered in place of the handler
}

// Header is the header of the answer.
func (g *gate) Header() http.Header { return g.to.Header() }

// WriteHeader keeps the status.
func (g *gate) WriteHeader(code int) {
	switch {
	case g.open:
		g.to.WriteHeader(code)
	case g.status == 0:
		g.status = code
	}
}

// Write keeps JSON of bearable size, and asks before the first byte of
// everything else.
func (g *gate) Write(p []byte) (int, error) {
	if !g.open && !g.denied {
		if isJSON(g.Header()) && len(g.held)+len(p) <= bodyLimit {
			g.held = append(g.held, p...)
			return len(p), nil
		}
		g.decide(g.status, nil)
	}
	if g.denied {
		return 0, errDenied
	}
	return g.to.Write(p)
}

// FlushError asks, for what follows is a stream.
func (g *gate) FlushError() error {
	g.decide(g.status, g.held)
	if g.denied {
		return errDenied
	}
	return http.NewResponseController(g.to).Flush()
}

// Hijack asks before the connection is taken over. Who takes it over without a
// header writes that to the connection.
func (g *gate) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	g.decide(http.StatusSwitchingProtocols, nil)
	if g.denied {
		return nil, nil, errDenied
	}
	return http.NewResponseController(g.to).Hijack()
}

// finish ends the answer.
func (g *gate) finish() { g.decide(g.status, g.held) }

// decide asks, once, and sends what was held back or the refusal.
func (g *gate) decide(status int, body []byte) {
	if g.open || g.denied {
		return
	}
	if status == 0 {
		status = http.StatusOK
	}
	if err := g.ask(status, g.Header(), body); err != nil {
		g.denied = true
		deny(g.to, err)
		return
	}
	g.open = true
	if g.status != 0 {
		g.to.WriteHeader(g.status)
	}
	if len(g.held) > 0 {
		g.to.Write(g.held) // the next write says that the client left
		g.held = nil
	}
}
