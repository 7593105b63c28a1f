package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// TestDelegate: what is delegated is in every hierarchy, below the limits, and
// can be given away; it goes with the group above.
func TestDelegate(t *testing.T) {
	h := detect(t)
	limit := int64(32 << 20)
	g := create(t, h, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}})
	if g.Delegated() != nil {
		t.Error("something is delegated already")
	}
	below, err := g.Delegate()
	if err != nil {
		t.Fatal(err)
	}
	if found := g.Delegated(); found == nil || found.Path() != below.Path() {
		t.Errorf("delegated: %+v", found)
	}
	out, err := output(t, below, "cat /proc/self/cgroup")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mounted := map[string]bool{}
	for _, m := range append(below.withTasks(), below.unified()...) {
		mounted[path.Base(m.mount)] = true
	}
	for line := range strings.Lines(out) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		name := strings.TrimPrefix(f[1], "name=")
		if name != f[1] && !mounted[name] {
			continue // a hierarchy that somebody else has made
		}
		if f[2] != below.Path() {
			t.Errorf("attached to %s", strings.TrimSpace(line))
		}
	}
	if j := below.Joined(os.Getpid()); j.Path() != below.Path() {
		t.Errorf("beside a process that is elsewhere: %s", j.Path())
	}

	leaf := join(below.path, "init.scope")
	procs, err := below.Leaf()
	if err != nil || (procs >= 0) != (h.Version() == V2) {
		t.Fatalf("leaf: %d, %v", procs, err)
	}
	if procs >= 0 {
		defer unix.Close(procs)
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_, werr := unix.Write(procs, strconv.AppendInt(nil, int64(cmd.Process.Pid), 10))
		joined := below.Joined(cmd.Process.Pid)
		// Groups beside it can have controllers while it is there.
		cerr := h.unified.write(below.path, "cgroup.subtree_control", "+pids")
		if err := errors.Join(werr, cerr, cmd.Process.Kill()); err != nil || joined.path != leaf {
			t.Errorf("%v; joined %s", err, joined.Path())
		}
		_ = cmd.Wait() // killed
	}

	const user, group = 12345, 23456
	if err := below.Give(user, group); err != nil {
		t.Fatal(err)
	}
	owner := func(m *hierarchy, name string) uint32 {
		var st unix.Stat_t
		if err := unix.Fstatat(m.dir, name, &st, 0); err != nil {
			t.Fatal(m.mount, name, err)
		}
		return st.Uid
	}
	for _, m := range append(below.withTasks(), below.unified()...) {
		if owner(m, below.path) != user || owner(m, below.path+"/cgroup.procs") != user {
			t.Errorf("%s: the group was not given away", m.mount)
		}
		if m.v2 && procs >= 0 && owner(m, leaf) != user {
			t.Error("the leaf was not given away")
		}
		if owner(m, g.path) != 0 {
			t.Errorf("%s: the group above was given away", m.mount)
		}
	}
	// Root of the group lifts what it sees of the limit, and still has it.
	if m, ok := h.v1At("memory"); ok {
		if err := m.write(below.path, "memory.limit_in_bytes", "-1"); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := output(t, below, "head -c 64m /dev/zero | tail | wc -c"); err == nil && strings.TrimSpace(out) == "67108864" {
		t.Error("the limit above does not hold")
	}
	t.Cleanup(func() { // before that of create
		for _, m := range h.named {
			if !m.exists(below.path) {
				t.Errorf("%s: gone too early", m.mount)
			}
		}
	})
}

// TestLeftInNamed is a removal that was cut short before the named hierarchy's
// turn.
func TestLeftInNamed(t *testing.T) {
	h := detect(t)
	if len(h.named) == 0 {
		t.Skip("no named hierarchy: version 2 alone")
	}
	left := parent + "/left"
	m := h.named[0]
	if err := os.MkdirAll(m.name(left+"/below", ""), 0o755); err != nil {
		t.Fatal(err)
	}
	defer m.rmdir(parent)
	g, err := h.Open(left)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Delete(t.Context()); err != nil || m.exists(left) {
		t.Errorf("%v; still there: %v", err, m.exists(left))
	}
	if _, err := h.Open(left); !errors.Is(err, errdefs.NotFound) {
		t.Errorf("afterwards: %v", err)
	}
}
