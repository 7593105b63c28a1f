package daemon

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// TestCrowd: beyond the limit clients wait until others leave, whether these
// were answered, taken over or never said a word.
func TestCrowd(t *testing.T) {
	p := filepath.Join(t.TempDir(), "s.sock")
	l, err := net.Listen("unix", p)
	if err != nil {
		t.Fatal(err)
	}
	c := newCrowd(2)
	s := &http.Server{ConnState: c.note, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/take" {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			t.Cleanup(func() { conn.Close() })
		}
	})}
	done := make(chan error, 1)
	go func() { done <- s.Serve(c.listen(l)) }()
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("unix", p)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	ask := func(c net.Conn, path string) {
		t.Helper()
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatal(err)
		}
	}
	ask(dial(), "/take") // counts no more
	first, second := dial(), dial()
	ask(first, "/")
	ask(second, "/")
	third := dial() // in the kernel's queue
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		ask(third, "/")
	}()
	select {
	case <-answered:
		t.Error("three were served at a time")
	case <-time.After(50 * time.Millisecond):
	}
	first.Close()
	<-answered
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != http.ErrServerClosed {
		t.Error(err)
	}
}
