package program

import (
	"encoding/binary"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestSeries(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	word := make([]byte, 8)
	at := uintptr(unsafe.Pointer(unsafe.SliceData(word)))
	zero := Call{Nr: unix.SYS_SCHED_YIELD}
	write := Call{Nr: unix.SYS_WRITE, Args: [6]uintptr{uintptr(pipe[1]), at, 8}}
	read := Call{Nr: unix.SYS_READ, Args: [6]uintptr{uintptr(pipe[0]), at, 8}}
	for _, c := range []struct {
		calls []Call
		index int
		err   error
	}{
		{nil, 0, nil},
		{[]Call{zero, zero, zero}, 3, nil},
		{[]Call{zero, read, zero}, 1, unix.EAGAIN},
		{[]Call{zero, zero, write}, 2, nil},
		{[]Call{read, zero}, 0, nil},
	} {
		i := Series(c.calls)
		var err error
		if i < len(c.calls) {
			err = c.calls[i].Err()
		}
		if i != c.index || err != c.err {
			t.Errorf("%d calls: stopped at %d, %v; want %d, %v", len(c.calls), i, err, c.index, c.err)
		}
		if err == nil && i < len(c.calls) && c.calls[i].Result != 8 {
			t.Errorf("result %d", c.calls[i].Result)
		}
	}
}

// Code that a series has unmapped is not mapped again until the series is over,
// but for what surrounds the series itself.
func TestSeriesUnmapsCode(t *testing.T) {
	text, _, err := layout()
	if err != nil {
		t.Fatal(err)
	}
	pages, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Fatal(err)
	}
	defer pages.Close()
	page := uint64(os.Getpagesize())
	// A word for each page; those of the heap would come as they are written.
	words, err := unix.Mmap(-1, 0, int((text.to-text.from)/page*8), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(words)
	look := Call{Nr: unix.SYS_PREAD64, Args: [6]uintptr{pages.Fd(), uintptr(unsafe.Pointer(unsafe.SliceData(words))), uintptr(len(words)), uintptr(text.from / page * 8)}}
	present := func(before ...Call) (n int) {
		calls := append(before, look)
		if i := Series(calls); i != len(calls)-1 || calls[i].Result != len(words) {
			t.Fatalf("call %d: %d, %v", i, calls[i].Result, calls[i].Err())
		}
		for i := 0; i < len(words); i += 8 {
			n += int(binary.NativeEndian.Uint64(words[i:]) >> 63) // bit 63: page present
		}
		return n
	}
	all := present()
	const around = 64 << 10 // fault_around_bytes
	few := present(Call{Nr: unix.SYS_MADVISE, Args: [6]uintptr{uintptr(text.from), uintptr(text.to - text.from), unix.MADV_DONTNEED}})
	// The routine may lie across a border of 64 kB; other threads run, too.
	if few > all/2 || all < 4*around/int(page) {
		t.Errorf("%d pages of code are mapped, %d after unmapping them", all, few)
	}
}
