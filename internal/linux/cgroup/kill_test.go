package cgroup

import (
	"context"
	"sync"
	"testing"
	"time"
)

// TestKillJoins kills a group while processes are on their way into it: those
// that arrive after the kill, and before it has looked, must die too.
func TestKillJoins(t *testing.T) {
	g := create(t, detect(t), nil)
	if !g.h.kill {
		t.Skip("Linux before 5.14: killed one by one")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var joining sync.WaitGroup
	for range 20 {
		cmd, release := command(t, g, "sleep 100")
		joining.Go(func() {
			err := cmd.Start()
			release()
			if err == nil {
				_ = cmd.Wait()
			}
		})
	}
	ended := make(chan struct{})
	go func() { joining.Wait(); close(ended) }()
	for running := true; running; { // again for those that came when it was empty
		if err := g.Kill(ctx); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ended:
			running = false
		case <-time.After(10 * time.Millisecond):
		}
	}
}
