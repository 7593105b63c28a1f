package program

import (
	"runtime"
	"syscall"
)

// Call is one system call of a Series, and what it returned.
type Call struct {
	Nr   uintptr
	Args [6]uintptr
	// Result is as the kernel returns it: a negated errno for a failure.
	Result int
}

// Err returns the call's failure, or nil.
func (c *Call) Err() error {
	if c.Result < 0 && c.Result > -4096 {
		return syscall.Errno(-c.Result)
	}
	return nil
}

// Series makes system calls one after another on the calling thread, until one
// returns something else than 0, of which it returns the index; len(calls) when
// all have returned 0. Between them no Go code runs, not even for a moment:
// madvise(2) on the code itself can be among them, and what comes after it
// touches a page of it.
//
// An address in Args must be of memory that does not move: of mmap(2), of a
// mapped file, or of the heap, where the caller keeps it alive. Never that of a
// variable that may be on the stack.
func Series(calls []Call) int {
	if len(calls) == 0 {
		return 0
	}
	left := waitSeries(&calls[0], len(calls))
	runtime.KeepAlive(calls)
	return len(calls) - left
}

// waitSeries makes the calls as the runtime makes one that may block.
//
//go:nosplit
//go:norace
func waitSeries(first *Call, n int) int {
	entersyscall()
	left := series(first, n)
	exitsyscall()
	return left
}

// series returns how many calls are left, the one that did not return 0 among
// them.
//
//go:noescape
func series(first *Call, n int) int
