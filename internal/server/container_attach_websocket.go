package server

import (
	"net/http"
	"sync"

	"lade/internal/engine"
	"lade/internal/server/compat"
	"lade/internal/server/stream"
)

// containerAttachWebsocket connects the client to a container's streams by a
// websocket: what it sends is standard input, what it gets both outputs, not
// told apart. It returns when either side is done.
func (s *server) containerAttachWebsocket(w http.ResponseWriter, r *http.Request) error {
	var relay sync.WaitGroup
	defer relay.Wait()
	return s.attach(r, func(tty bool) (engine.Conn, error) {
		text := callOf(r.Context()).version < compat.V1(28)
		socket, c, err := stream.Websocket(w, r, tty, text)
		if err != nil {
			return c, err
		}
		if a, ok := w.(*answer); ok {
			a.hijacked = true
		}
		relay.Go(func() { socket.Relay(r.Context()) })
		return c, nil
	})
}
