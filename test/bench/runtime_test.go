package bench

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/need"
)

// bundle makes what `spec` makes, with every namespace that it names, control
// groups and masks, around busybox's true.
func bundle(t *testing.T, runtime string) string {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "rootfs")
	for _, d := range []string{"bin", "dev", "proc", "sys"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(need.Program(t, "busybox", "Debian's busybox-static"))
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "bin/true"), raw, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(runtime, "spec", "--bundle", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	var s specs.Spec
	file := filepath.Join(dir, "config.json")
	if raw, err = os.ReadFile(file); err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Process.Terminal, s.Process.Args = false, []string{"/bin/true"}
	if raw, err = json.Marshal(s); err == nil {
		err = os.WriteFile(file, raw, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// installed copies a program, as to install it does. The linker writes it through
// a mapping, page by page, and so the page cache keeps it until the file is read
// anew: to map such a file takes a Go program that does nothing 0.2 ms, and
// lade-runtime 0.7, of the time of the copy.
func installed(t *testing.T, program string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), filepath.Base(program))
	raw, err := os.ReadFile(program)
	if err == nil {
		err = os.WriteFile(to, raw, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// bare builds a Go program that does nothing.
func bare(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "bare.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "bare")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, msg)
	}
	return installed(t, out)
}

// floor builds the program that makes the system calls of a start and no more.
func floor(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "floor")
	msg, err := exec.Command(need.Program(t, "gcc", "Debian's gcc"), "-O1", "-nostdlib", "-static", "-ffreestanding", "-fno-builtin", "-fno-stack-protector",
		"-o", out, "testdata/floor.c").CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, msg)
	}
	return out
}

// contender is a program whose runs are compared.
type contender struct {
	command []string
	wall    times
	cpu     times
	faults  []float64
}

func (c *contender) run(t *testing.T) {
	t.Helper()
	cmd := exec.Command(c.command[0], c.command[1:]...)
	begin := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v %s", strings.Join(c.command, " "), err, out)
	}
	c.wall = append(c.wall, time.Since(begin))
	c.cpu = append(c.cpu, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	c.faults = append(c.faults, float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Minflt))
}

// note prints the medians.
func (c *contender) note(t *testing.T, name string) {
	t.Helper()
	note(t, name, c.wall.median(), "ms")
	note(t, "… processor time", c.cpu.median(), "ms")
	slices.Sort(c.faults)
	note(t, "… page faults", c.faults[len(c.faults)/2], "")
}

// onTmpfs returns a directory in memory, as /run is, where runtimes keep their
// state. (Where /run is part of the disk a run costs half a millisecond more.)
func onTmpfs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestRuntimeCommand measures `lade-runtime run` of a bundle with all
// namespaces beside a Go program that does nothing and, with BENCH_PEERS=1,
// Debian's runc and the bare system calls: one after the other, again and again, so that a slow minute is
// slow for all.
func TestRuntimeCommand(t *testing.T) {
	if os.Getenv("LADE_BENCH") == "" {
		t.Skip("make bench runs it")
	}
	need.Root(t)
	runtime := installed(t, need.Binary(t, "lade-runtime"))
	dir := bundle(t, runtime)
	state := onTmpfs(t)
	idle := &contender{command: []string{bare(t)}}
	lade := &contender{command: []string{runtime, "--root", state + "/lade", "run", "--bundle", dir, "lade-bench-runtime"}}
	all := []*contender{idle, lade}
	runc, least := &contender{}, &contender{}
	if os.Getenv("BENCH_PEERS") == "1" {
		least.command = []string{floor(t), state + "/floor", dir + "/rootfs", "lade-bench-floor"}
		all = append(all, least)
		runc.command = []string{need.Program(t, "runc", "Debian's runc"), "--root", state + "/runc", "run", "--bundle", dir, "lade-bench-runc"}
		all = append(all, runc)
	}
	for range 50 {
		for _, c := range all {
			c.run(t)
		}
	}
	idle.note(t, "a Go program that does nothing")
	lade.note(t, "lade-runtime run")
	limit(t, "lade-runtime run, more than that Go program", lade.wall.median()-idle.wall.median(), 5, "ms")
	if len(runc.wall) > 0 {
		least.note(t, "the same system calls alone")
		note(t, "… and the start of a Go program", least.wall.median()+idle.wall.median(), "ms")
		note(t, "… processor time", least.cpu.median()+idle.cpu.median(), "ms")
		runc.note(t, "runc run")
		limit(t, "lade-runtime run, as a share of runc run", lade.wall.median()/runc.wall.median(), 1.0/8, "")
	}
}
