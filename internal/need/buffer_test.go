package need

import (
	"io"
	"testing"
)

// TestBuffer: what one goroutine writes another one waits for.
func TestBuffer(t *testing.T) {
	var b Buffer
	go func() {
		io.WriteString(&b, "one ")
		io.WriteString(&b, "two")
	}()
	b.Await(t, "e tw")
	b.Await(t, "one two")
	if got := b.String(); got != "one two" {
		t.Errorf("the buffer holds %q", got)
	}
}
