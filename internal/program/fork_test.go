package program

import (
	"errors"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/need"
)

// TestFork lets a second process, in a pid namespace of its own, go on with the
// program.
func TestFork(t *testing.T) {
	need.Root(t)
	p := newProgram(t, Vfork)
	for range 3 { // the arena is used again
		p.Reset()
		before := p.Sys("getpid", "", unix.SYS_GETPID)
		p.Fork(unix.CLONE_NEWPID, -1)
		after := p.Sys("getpid", "", unix.SYS_GETPID)
		p.exec(self(t), "4")
		r, err := p.Run(none)
		if err != nil {
			t.Fatal(err)
		}
		if inside := p.a.ops[after.i].result; inside != 1 {
			t.Errorf("the second process is %d in its namespace, want 1", inside)
		}
		if first := p.a.ops[before.i].result; int(first) == r.Pid || first == 0 {
			t.Errorf("the first process is %d, the second %d", first, r.Pid)
		}
		for left := 1000; exists(int(p.a.ops[before.i].result)); left-- {
			if left == 0 {
				t.Fatal("the first process is still there")
			}
			time.Sleep(time.Millisecond)
		}
		if ws := reap(t, r); ws.ExitStatus() != 44 {
			t.Errorf("exit status %d, want 44", ws.ExitStatus())
		}
	}
}

func exists(pid int) bool {
	_, err := os.Stat("/proc/" + strconv.Itoa(pid))
	return err == nil
}

func TestForkFailures(t *testing.T) {
	need.Root(t)
	p := newProgram(t, Vfork)
	t.Run("before", func(t *testing.T) {
		p.Reset()
		p.Sys("chdir", "/nonexistent", unix.SYS_CHDIR, p.String("/nonexistent"))
		p.Fork(0, -1)
		p.exit(0)
		r, err := p.Run(none)
		if oe, ok := errors.AsType[*OpError](err); !ok || oe.Index != 0 {
			t.Errorf("err = %v", err)
		}
		if ws := reap(t, r); ws.ExitStatus() != 253 {
			t.Errorf("status %d", ws.ExitStatus())
		}
	})
	t.Run("the fork", func(t *testing.T) {
		p.Reset()
		p.Fork(unix.CLONE_THREAD, -1)
		p.exit(0)
		r, err := p.Run(none)
		if oe, ok := errors.AsType[*OpError](err); !ok || oe.Call != "clone3" || oe.Errno != unix.EINVAL {
			t.Errorf("err = %v", err)
		}
		if ws := reap(t, r); ws.ExitStatus() != 253 {
			t.Errorf("status %d", ws.ExitStatus())
		}
	})
	t.Run("after", func(t *testing.T) {
		p.Reset()
		p.Fork(0, -1)
		p.Sys("chdir", "/nonexistent", unix.SYS_CHDIR, p.String("/nonexistent"))
		p.exit(0)
		r, err := p.Run(none)
		if oe, ok := errors.AsType[*OpError](err); !ok || oe.Index != 1 || oe.Errno != unix.ENOENT {
			t.Errorf("err = %v", err)
		}
		if ws := reap(t, r); ws.ExitStatus() != 253 {
			t.Errorf("status %d", ws.ExitStatus())
		}
	})
	// Neither of the two that share the memory may outlive Run.
	for name, which := range map[string]func() int{"first killed": func() int { return int(int32(p.a.tid)) }, "second killed": func() int { return int(int32(p.a.last)) }} {
		t.Run(name, func(t *testing.T) {
			p.Reset()
			var fds [2]int
			if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fds[0])
			defer unix.Close(fds[1])
			p.Fork(0, -1)
			p.Sys("write", "ready", unix.SYS_WRITE, uint64(fds[1]), p.Words(0), 1)
			p.Sys("nanosleep", "", unix.SYS_NANOSLEEP, p.Words(60, 0), 0)
			p.exec(self(t), "0")
			type out struct {
				r   Result
				err error
			}
			done := make(chan out, 1)
			go func() {
				r, err := p.Run(none)
				done <- out{r, err}
			}()
			var b [1]byte
			if _, err := unix.Read(fds[0], b[:]); err != nil {
				t.Fatal(err)
			}
			if err := unix.Kill(which(), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			o := <-done
			if !errors.Is(o.err, ErrKilled) {
				t.Errorf("err = %v", o.err)
			}
			if ws := reap(t, o.r); ws.Signal() != unix.SIGKILL {
				t.Errorf("status %v", ws)
			}
		})
	}
}

// TestForkSpawned forks in a child with memory of its own.
func TestForkSpawned(t *testing.T) {
	need.Root(t)
	p := newProgram(t, Parked)
	p.Fork(unix.CLONE_NEWPID, -1)
	p.exec(self(t), "5")
	r, err := p.Spawn(none)
	if err != nil {
		t.Fatal(err)
	}
	if r, err = p.Second(r); err != nil {
		t.Fatal(err)
	}
	if ws := reap(t, r); ws.ExitStatus() != 45 {
		t.Errorf("exit status %d, want 45", ws.ExitStatus())
	}
}
