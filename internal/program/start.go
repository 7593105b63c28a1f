package program

import _ "unsafe" // for go:linkname

func interpret(b *block)

//go:linkname entersyscallblock runtime.entersyscallblock
func entersyscallblock()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()

// start runs the interpreter. The scheduler is told before that this thread is
// going to block, so that its processor is handed on at once and a collection
// does not wait for a program; that is all the runtime needs to know, because
// nothing of it runs in the child and the interpreter blocks every signal.
//
//go:nosplit
//go:norace
func start(b *block) {
	entersyscallblock()
	interpret(b)
	exitsyscall()
}
