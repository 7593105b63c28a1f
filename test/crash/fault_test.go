package crash

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

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

// TestDiskFails fills the disk, and then takes the right to write to it away, as
// the kernel does after an error of the device. What runs goes on, what needs no
// disk is answered, what does is refused with the reason, and nothing of it is
// half done when the disk is back.
func TestDiskFails(t *testing.T) {
	need.Root(t)
	d := newPowerDisk(t, 128<<20)
	t.Setenv("TMPDIR", d.dir)
	e := harness.Start(t)
	img := e.Import()
	e.Run("run", "-d", "--name", "log", img, "sh", "-c", count)
	e.Run("run", "--name", "ended", img, "true")
	pid := inspect(e, "log", ".State.Pid")
	goesOn := func() {
		t.Helper()
		wants(t, e, "log", ".State.Pid", pid)
		e.Run("ps", "-a")
		e.Run("images")
		e.Run("logs", "-n", "1", "log")
		e.Run("exec", "log", "true")
	}
	refused := func(why string, args ...string) {
		t.Helper()
		if _, stderr, code := e.Try(args...); code == 0 || !strings.Contains(stderr, why) {
			t.Errorf("lade %s: exit code %d, %s", strings.Join(args, " "), code, stderr)
		}
	}

	filler := filepath.Join(d.dir, "filler")
	fill(t, filler)
	goesOn()
	fill(t, filler) // what went meanwhile has left room
	refused("no space left on device", "create", "--name", "new", img, "true")
	fill(t, filler)
	refused("no space left on device", "volume", "create", "new")
	e.Run("rm", "ended") // who wants room must get it
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	goesOn()
	e.Run("run", "--name", "new", img, "true")
	wants(t, e, "new", ".State.ExitCode", "0")

	if err := os.WriteFile("/sys/fs/ext4/"+d.block+"/trigger_fs_error", []byte("a test"), 0o200); err != nil {
		t.Fatal(err)
	}
	goesOn()
	refused("read-only file system", "create", "--name", "newer", img, "true")
	refused("read-only file system", "volume", "create", "new")
	e.Kill()
	if got := e.Refused(); !strings.Contains(got, "read-only file system") {
		t.Errorf("a daemon on a disk that it cannot write to says %q", got)
	}

	// Repaired, as when the machine is started again.
	for _, p := range []string{fmt.Sprint(e.Supervisor()), pid} {
		n, err := strconv.Atoi(p)
		if err == nil {
			err = syscall.Kill(n, syscall.SIGKILL)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	soon(t, func() error {
		if alive(pid) {
			return fmt.Errorf("the container does not die")
		}
		return unix.Unmount(d.dir, 0)
	})
	if out, err := exec.Command("e2fsck", "-fy", d.path("disk")).CombinedOutput(); err != nil {
		t.Logf("e2fsck: %v\n%s", err, out) // 1: it has mended something
	}
	d.mount("disk")
	e.Launch()
	if got := e.Run("ps", "-a", "--format", "{{.Names}}"); got != "new\nlog" {
		t.Errorf("there are %q", got)
	}
	becomes(t, e, "log", ".State.Status", "exited")
	e.Run("start", "log")
	e.Run("stop", "-t", "0", "log")
}

// fill writes to a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for b := make([]byte, 1<<20); len(b) > 0; {
		if _, err := f.Write(b); errors.Is(err, unix.ENOSPC) {
			b = b[:len(b)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil && !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}
