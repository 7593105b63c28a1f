package program

import _ "unsafe" // for go:linkname

func interpret(b *block)

//go:linkname entersyscall runtime.entersyscall
func entersyscall()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()

// start runs the interpreter as the runtime runs a system call: neither a
// collection nor, for long, another goroutine waits for a program. (To hand the
// processor on at once would wake another thread for each program.) That is all
// the runtime needs to know, because nothing of it runs in the child and the
// interpreter blocks every signal.
//
//go:nosplit
//go:norace
func start(b *block) {
	entersyscall()
	interpret(b)
	exitsyscall()
}
