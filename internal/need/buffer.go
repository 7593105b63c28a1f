package need

import (
	"bytes"
	"strings"
	"sync"
	"testing"
)

// Buffer holds what a process or a goroutine writes while a test reads it. Its
// zero value is empty.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns what was written until now.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Await waits until a text was written, as Eventually does, and fails the test
// with all that was written when it never is.
func (b *Buffer) Await(t testing.TB, text string) {
	t.Helper()
	defer func() {
		if !strings.Contains(b.String(), text) {
			t.Logf("what was written:\n%s", b)
		}
	}()
	Eventually(t, "there is "+text, func() bool { return strings.Contains(b.String(), text) })
}
