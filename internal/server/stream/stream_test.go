package stream

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/logs"
	"lade/internal/need"
)

func TestFrame(t *testing.T) {
	if got := Frame([]byte("x"), logs.Stderr, 0x01020304); string(got) != "x\x02\x00\x00\x00\x01\x02\x03\x04" {
		t.Errorf("%q", got)
	}
}

// slow is an answer whose client reads only when released.
type slow struct {
	release chan struct{}
	err     error

	mu      sync.Mutex
	b       bytes.Buffer // guarded by mu
	writes  int          // guarded by mu
	flushes int          // guarded by mu
}

func (s *slow) Header() http.Header { return http.Header{} }
func (s *slow) WriteHeader(int)     {}
func (s *slow) Write(p []byte) (int, error) {
	<-s.release
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	s.writes++
	return s.b.Write(p)
}
func (s *slow) FlushError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flushes++
	return nil
}

// TestWriterBatches: what comes in while the connection is busy goes out in
// one piece, and a single line goes out at once.
func TestWriterBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &slow{release: make(chan struct{})}
		w := NewWriter(c)
		io.WriteString(w, "a")
		synctest.Wait() // sending "a"
		for range 100 {
			io.WriteString(w, "b")
		}
		c.release <- struct{}{}
		synctest.Wait()
		c.mu.Lock()
		if c.b.String() != "a" || c.flushes != 1 {
			t.Errorf("%q, %d flushes", &c.b, c.flushes)
		}
		c.mu.Unlock()
		close(c.release)
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if c.b.Len() != 101 || c.writes != 2 {
			t.Errorf("%d bytes in %d writes", c.b.Len(), c.writes)
		}
	})
}

// TestWriterBlocks: a client that does not read stops the producer, not memory.
func TestWriterBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &slow{release: make(chan struct{})}
		w := NewWriter(c)
		written := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 1000 {
				if _, err := w.Write(make([]byte, 1000)); err != nil {
					return
				}
				written++
			}
		}()
		synctest.Wait()
		if written == 0 || written > 2*limit/1000 {
			t.Errorf("%d writes went through", written)
		}
		close(c.release)
		<-done
		if err := w.Close(); err != nil || c.b.Len() != 1000*1000 {
			t.Errorf("%d bytes, %v", c.b.Len(), err)
		}
	})
}

func TestWriterError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &slow{release: make(chan struct{}), err: errors.New("gone")}
		w := NewWriter(c)
		io.WriteString(w, "a")
		close(c.release)
		synctest.Wait()
		if _, err := io.WriteString(w, "b"); err == nil {
			t.Error("no error for the producer")
		}
		if err := w.Close(); err == nil || err.Error() != "gone" {
			t.Error(err)
		}
	})
}

func TestHijackImpossible(t *testing.T) {
	if _, err := Hijack(httptest.NewRecorder(), nil, false); err == nil {
		t.Error("a recorder has no connection")
	}
}

// unread is how much of what was written to a unix socket its peer has not read.
func unread(t *testing.T, f *os.File) (n int) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err == nil {
		err2 := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) })
		err = errors.Join(err, err2)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSettled: it waits for a reader that is late, and not for one that never
// comes.
func TestSettled(t *testing.T) {
	a, f, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	defer f.Close()
	if _, err := f.Write([]byte("header")); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if settled(f); time.Since(begin) < settleUnix {
		t.Errorf("nobody has read, and it took only %v", time.Since(begin))
	}
	need.Eventually(t, "it returns soon after the peer has read", func() bool {
		read := make(chan error, 1)
		begin = time.Now()
		go func() {
			<-time.After(settleUnix / 10)
			_, err := a.Read(make([]byte, 100))
			read <- err
		}()
		settled(f)
		took := time.Since(begin)
		if n := unread(t, f); took < settleUnix && n != 0 {
			t.Errorf("after %v the peer has not read %d bytes", took, n)
		}
		if err := <-read; err != nil {
			t.Error(err)
		}
		if _, err := f.Write([]byte("more")); err != nil {
			t.Error(err)
		}
		return took < settleUnix*3/4
	})
}
