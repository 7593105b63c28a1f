package server

import (
	"net/http"
	"os"

	"github.com/moby/moby/api/types/container"

	"lade/internal/engine"
	"lade/internal/logs"
	"lade/internal/server/stream"
)

// execStart starts an additional process and connects the client to its
// streams, unless it is to be detached. What goes wrong after the connection
// was taken over is said on standard output, where clients expect it.
func (s *server) execStart(w http.ResponseWriter, r *http.Request) error {
	var req container.ExecStartRequest
	if err := s.decode(r, &req); err != nil {
		return err
	}
	o := engine.ExecStartOptions{Detach: req.Detach, Tty: req.Tty, ConsoleSize: req.ConsoleSize}
	if o.Detach {
		return s.backend.ExecStart(lasting(r), r.PathValue("id"), o)
	}
	take := s.hijack(w, r)
	var (
		spare  *os.File // the engine closes its own
		framed bool
	)
	o.Hijack = func(tty bool) (engine.Conn, error) {
		c, err := take(tty)
		if err != nil {
			return c, err
		}
		framed = !tty
		if spare, err = stream.Duplicate(c.File); err != nil {
			s.log.Warn("an error of the exec could not be told", "exec", r.PathValue("id"), "error", err)
		}
		return c, nil
	}
	err := s.backend.ExecStart(r.Context(), r.PathValue("id"), o)
	if spare == nil {
		return err
	}
	defer spare.Close() // nothing to lose: the stream is the engine's
	if err != nil {
		line := err.Error() + "\r\n"
		var b []byte
		if framed {
			b = stream.Frame(b, logs.Stdout, len(line))
		}
		if _, werr := spare.Write(append(b, line...)); werr != nil {
			s.log.Debug("client left", "error", werr)
		}
	}
	return err
}
