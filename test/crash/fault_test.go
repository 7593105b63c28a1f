package crash

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// TestRunWiped deletes everything below the exec root while a container runs,
// once what is in it, and once itself. The supervisor makes it again, so that the
// next daemon finds what runs, and how a container ended meanwhile.
func TestRunWiped(t *testing.T) {
	e := harness.Start(t)
	img := e.Import()
	e.Run("run", "-d", "--name", "log", img, "sh", "-c", count)
	pid, supervisor := inspect(e, "log", ".State.Pid"), e.Supervisor()
	root := filepath.Join(e.Dir, "exec")
	for n, wipe := range []func() error{
		func() error {
			entries, err := os.ReadDir(root)
			for _, entry := range entries {
				if err == nil {
					err = os.RemoveAll(filepath.Join(root, entry.Name()))
				}
			}
			return err
		},
		func() error { return os.RemoveAll(root) },
	} {
		name := fmt.Sprint("ends", n)
		e.Run("run", "-d", "--name", name, img, "sh", "-c", "while [ ! -e /go ]; do usleep 10000; done; exit 7")
		inside := "/proc/" + inspect(e, name, ".State.Pid") + "/root/go"
		e.Kill()
		if err := os.WriteFile(inside, nil, 0o600); err != nil { // it ends, and nobody is told
			t.Fatal(err)
		}
		soon(t, func() error {
			if _, err := os.Stat(inside); err == nil {
				return fmt.Errorf("%s does not end", name)
			}
			return nil
		})
		if err := wipe(); err != nil {
			t.Fatal(err)
		}
		soon(t, func() error {
			_, err := os.Lstat(filepath.Join(root, "supervisor.sock"))
			return err
		})
		e.Launch()
		if got := e.Supervisor(); got != supervisor {
			t.Errorf("the supervisor is process %d, and was %d", got, supervisor)
		}
		becomes(t, e, name, ".State.ExitCode", "7")
		wants(t, e, "log", ".State.Pid", pid)
		e.Run("exec", "log", "true")
		e.Run("rm", name)
	}
	e.Run("stop", "-t", "0", "log")
	unbroken(t, "log", e.Run("logs", "log"))
}

// TestSupervisorOutOfMemory lets the kernel kill the supervisor for memory, as it
// does when a control group around it has too little. It is as lost as by
// kill -9: containers go on, and the next one has them.
func TestSupervisorOutOfMemory(t *testing.T) {
	need.Root(t)
	e := harness.Start(t)
	img := e.Import()
	e.Run("run", "-d", "--name", "log", img, "sh", "-c", count)
	e.Run("run", "-d", "--name", "seven", img, "sh", "-c", "while [ ! -e /go ]; do usleep 10000; done; exit 7")
	pid, supervisor := inspect(e, "log", ".State.Pid"), e.Supervisor()
	group, told := memoryGroup(t, supervisor)
	soon(t, func() error { // what it needs next is too much
		if alive(fmt.Sprint(supervisor)) {
			_, _, _ = e.Try("exec", "log", "true") // the supervisor may die of it
			return fmt.Errorf("%s: the supervisor lives", group)
		}
		return nil
	})
	if raw, err := os.ReadFile(filepath.Join(group, told)); err != nil || !strings.Contains(string(raw), "oom_kill 1") {
		t.Errorf("it was not killed for memory: %q, %v", raw, err)
	}
	soon(t, func() error {
		if got := e.Supervisor(); got == 0 || got == supervisor {
			return fmt.Errorf("no other supervisor: %d", got)
		}
		return nil
	})
	wants(t, e, "log", ".State.Pid", pid)
	e.Run("exec", "seven", "touch", "/go")
	becomes(t, e, "seven", ".State.Status", "exited")
	wantsCode(t, e, "seven", "7")
	e.Run("stop", "-t", "0", "log")
	broken(t, "log", e.Run("logs", "log"), 1)
}

// memoryGroup puts a process into a control group in which hardly anything may be
// allocated any more, and returns its directory and the file that counts who was killed.
func memoryGroup(t *testing.T, pid int) (dir, told string) {
	t.Helper()
	name := fmt.Sprintf("lade-test-memory-%d", os.Getpid())
	dir, told = "/sys/fs/cgroup/memory/"+name, "memory.oom_control"
	limit := "memory.limit_in_bytes"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		dir, limit, told = "/sys/fs/cgroup/"+name, "memory.max", "memory.events"
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		soon(t, func() error { return os.Remove(dir) })
	})
	if err := os.WriteFile(filepath.Join(dir, limit), []byte("65536"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(fmt.Sprint(pid)), 0o644); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err != nil || !strings.Contains(string(raw), fmt.Sprint(pid)) {
		t.Fatalf("%s has %q, %v", dir, raw, err)
	}
	return dir, told
}
