package server

import (
	"math"
	"runtime/debug"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A quiet server has a limit of memory; output that a client does not take lifts
// it, before the collector begins to struggle with it.
func TestQueueEndsQuiet(t *testing.T) {
	percent, most := debug.SetGCPercent(-1), debug.SetMemoryLimit(1<<30)
	defer func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(most)
	}()
	poll, err := newPoller()
	if err != nil {
		t.Fatal(err)
	}
	defer poll.close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFDs(pair[0], pair[1])
	st := &stream{s: &Server{poll: poll}, fd: pair[0]}
	st.write([]byte("taken at once"))
	if len(st.queue) > 0 || debug.SetMemoryLimit(-1) != 1<<30 {
		t.Errorf("%d bytes are queued, the limit is %d", len(st.queue), debug.SetMemoryLimit(-1))
	}
	st.write(make([]byte, 8<<20)) // more than the socket holds
	if len(st.queue) == 0 || debug.SetMemoryLimit(-1) != math.MaxInt64 {
		t.Errorf("%d bytes are queued, the limit is %d", len(st.queue), debug.SetMemoryLimit(-1))
	}
	poll.drop(st.fd)
}

// Output is read to where a page begins: see newBuffer.
func TestBuffer(t *testing.T) {
	for _, n := range []int{readLen, largeRead} {
		b := newBuffer(n)
		if at := uintptr(unsafe.Pointer(&b[headerLen])); at%4096 != 0 || len(b) != headerLen+n {
			t.Errorf("%d bytes at %#x", len(b), at)
		}
	}
}
