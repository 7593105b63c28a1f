//go:build failpoint

package failpoint

import (
	"fmt"
	"os"
	"sync"
	"syscall"
)

var (
	mu   sync.Mutex
	seen = map[string]int{} // hits of a place since it was armed; guarded by mu
)

// Hit ends the program if the file that LADE_FAILPOINT names holds the name of
// the place, at which hit it is to end, and a token; hits count from when the
// token was first seen.
func Hit(name string) {
	raw, err := os.ReadFile(os.Getenv("LADE_FAILPOINT"))
	if err != nil {
		return
	}
	var armed, token string
	var n int
	if _, err := fmt.Sscan(string(raw), &armed, &n, &token); err != nil || armed != name {
		return
	}
	mu.Lock()
	defer mu.Unlock()
	if seen[token]++; seen[token] == n {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // cannot fail
		select {}
	}
}
