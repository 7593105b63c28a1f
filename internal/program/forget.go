package program

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	goruntime "runtime"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// span is a part of the address space.
type span struct{ from, to uint64 }

// Forget appends ops by which a spawned child gives up all memory but the
// program and the code that interprets it: what it is a copy of is nobody's
// business who may look at the child later. The arena must be of kind Apart.
func (p *Program) Forget() error {
	if p.page == nil {
		return errors.New("start program: the arena is shared")
	}
	text, top, err := layout()
	if err != nil {
		return err
	}
	whole := func(b []byte) span {
		at := uint64(uintptr(unsafe.Pointer(&b[0])))
		return span{at, at + uint64(len(b)+unix.Getpagesize()-1)&^uint64(unix.Getpagesize()-1)}
	}
	keep := []span{text, whole(p.mem), whole(p.page), {top, top}}
	slices.SortFunc(keep, func(a, b span) int {
		if a.from < b.from {
			return -1
		}
		return 1
	})
	var at uint64
	for _, k := range keep {
		if k.from > at {
			p.Sys("munmap", "", unix.SYS_MUNMAP, at, k.from-at)
		}
		at = k.to
	}
	return nil
}

// layout finds the code of this program, and the end of its address space.
//
// Source: proc_pid_maps(5).
func layout() (text span, top uint64, err error) {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return text, 0, err
	}
	defer f.Close()
	pc, _, _, _ := goruntime.Caller(0)
	s := bufio.NewScanner(f)
	for s.Scan() {
		var m span
		if _, err := fmt.Sscanf(s.Text(), "%x-%x", &m.from, &m.to); err != nil {
			return text, 0, err
		}
		if m.from <= uint64(pc) && uint64(pc) < m.to {
			text = m
		}
		if !strings.HasSuffix(s.Text(), "[vsyscall]") { // beyond the end
			top = max(top, m.to)
		}
	}
	if err := s.Err(); err != nil {
		return text, 0, err
	}
	if text.to == 0 {
		return text, 0, errors.New("/proc/self/maps does not show this program")
	}
	return text, top, nil
}
