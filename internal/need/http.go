package need

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// ServeHTTP serves h on a unix socket until the test ends or stop is called, which
// may be more than once. The socket is removed then.
func ServeHTTP(t testing.TB, socket string, h http.Handler) (stop func()) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatalf("serve %s: %v", socket, err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	s.Start()
	stop = sync.OnceFunc(s.Close)
	t.Cleanup(stop)
	return stop
}
