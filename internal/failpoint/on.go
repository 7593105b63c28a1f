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
// program first sees the token. That it ended is told by a file of the same
// name with the token as its suffix.
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
	if seen[token]++; seen[token] != n {
		return
	}
	// Once is enough: what comes after us finds the file.
	f, err := os.OpenFile(os.Getenv("LADE_FAILPOINT")+"."+token, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		f.Close()
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // cannot fail
		select {}
	}
}
