package need

import (
	"net"
	"testing"
)

// Serve accepts the connections of l until the test ends, and calls serve for each
// in a goroutine of its own. It closes the connections and l.
func Serve[C net.Conn](t testing.TB, l net.Listener, serve func(C)) {
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c.(C))
			}()
		}
	}()
}
