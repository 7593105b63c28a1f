package cgroup

import (
	"context"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// TestKillJoins kills a group while processes are on their way into it: those
// that arrive after the kill, and before it has looked, must die too.
func TestKillJoins(t *testing.T) {
	g := create(t, detect(t), nil)
	if !g.h.kill {
		t.Skip("Linux before 5.14: killed one by one, which TestKillEachJoins does everywhere")
	}
	killJoining(t, g, func() (*exec.Cmd, func()) { return command(t, g, "sleep 100") })
}

// TestKillEachJoins does the same where the kernel does not kill a group, which is
// then frozen for a moment. They join by themselves: see AttachFDs.
func TestKillEachJoins(t *testing.T) {
	g := create(t, detect(t), nil)
	g.h.kill = false
	procs := g.listed().name(g.path, "cgroup.procs")
	killJoining(t, g, func() (*exec.Cmd, func()) {
		return exec.Command("/bin/sh", "-c", `echo $$ >"$0" && exec sleep 100`, procs), func() {}
	})
}

// killJoining starts processes that join a group, and kills what is in it until all
// have ended.
func killJoining(t *testing.T, g *Group, joiner func() (cmd *exec.Cmd, release func())) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var joining sync.WaitGroup
	for range 20 {
		cmd, release := joiner()
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
