package stream

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/coder/websocket"

	"lade/internal/engine"
	"lade/internal/errdefs"
)

// Socket is a websocket behind which the engine sees a plain stream.
type Socket struct {
	conn *websocket.Conn
	ours *net.UnixConn
	text bool // messages are text: clients before API 1.28
	raw  bool // the engine's stream has no frames
}

// Websocket makes a websocket of a request and returns it with the stream that
// the engine is to have, whose file the caller closes; Relay connects the two.
// Over TCP the request must come from a page of the same host, or from none.
// Errors: Invalid for a request that is no handshake, Forbidden for one of another
// page; nothing was answered then.
//
// Source: RFC 6455.
func Websocket(w http.ResponseWriter, r *http.Request, tty, text bool) (*Socket, engine.Conn, error) {
	refused := &refusal{ResponseWriter: w}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	conn, err := websocket.Accept(refused, r, &websocket.AcceptOptions{
		// No page can reach a unix socket by itself, and clients that do
		// invent an origin.
		InsecureSkipVerify: ok && local.Network() == "unix",
	})
	switch {
	case err != nil && refused.code == http.StatusForbidden:
		return nil, engine.Conn{}, errdefs.Forbiddenf("%s", refused.reason())
	case err != nil && refused.code != 0 && refused.code < http.StatusInternalServerError:
		return nil, engine.Conn{}, errdefs.Invalidf("%s", refused.reason())
	case err != nil:
		return nil, engine.Conn{}, fmt.Errorf("take over the connection: %w", err)
	}
	conn.SetReadLimit(-1) // messages are copied as they come
	ours, theirs, err := pair()
	if err != nil {
		return nil, engine.Conn{}, errors.Join(err, conn.CloseNow())
	}
	return &Socket{conn, ours, text, tty}, engine.Conn{File: theirs}, nil
}

// Relay copies until the engine's output ends, the client leaves or ctx ends.
// A client that sees the socket close with status 1000 has had all output.
func (s *Socket) Relay(ctx context.Context) {
	in := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { s.ours.Close() })
	go func() {
		defer close(in)
		defer cancel() // the client left: there is nobody to read the output
		for {
			_, message, err := s.conn.Reader(ctx)
			if err != nil {
				return
			}
			if _, err := io.Copy(s.ours, message); err != nil {
				return
			}
		}
	}()
	err := s.output(ctx)
	stop()
	s.ours.Close()
	if err == nil {
		s.conn.Close(websocket.StatusNormalClosure, "") // the client may have left
	} else {
		s.conn.CloseNow()
	}
	cancel()
	<-in
}

// output sends what the engine writes, each piece a message; frames are taken
// off, for websockets do not tell the two outputs apart.
func (s *Socket) output(ctx context.Context) error {
	kind := websocket.MessageBinary
	if s.text {
		kind = websocket.MessageText
	}
	in := bufio.NewReaderSize(s.ours, 32<<10)
	var buffer [32 << 10]byte
	left := 0 // of the frame
	for {
		if left == 0 && !s.raw {
			var header [8]byte
			if _, err := io.ReadFull(in, header[:]); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			left = int(binary.BigEndian.Uint32(header[4:]))
			continue
		}
		size := len(buffer)
		if !s.raw {
			size = min(size, left)
		}
		n, err := in.Read(buffer[:size])
		if n > 0 {
			if err := s.conn.Write(ctx, kind, buffer[:n]); err != nil {
				return err
			}
			left = max(left-n, 0)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// refusal keeps an answer other than 101 to itself.
type refusal struct {
	http.ResponseWriter
	code int
	text []byte
}

// Unwrap leads to the connection.
func (r *refusal) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// WriteHeader sends 101 and notes everything else.
func (r *refusal) WriteHeader(code int) {
	if code == http.StatusSwitchingProtocols {
		r.ResponseWriter.WriteHeader(code)
		return
	}
	r.code = code
}

// Write notes what is wrong.
func (r *refusal) Write(p []byte) (int, error) {
	r.text = append(r.text, p...)
	return len(p), nil
}

func (r *refusal) reason() string { return strings.TrimSpace(string(r.text)) }
