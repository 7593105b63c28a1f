package conformance

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/linux/mount"
	"lade/internal/linux/sys"
	"lade/internal/need"
	"lade/test/harness"
)

const (
	validation = "github.com/opencontainers/runtime-tools/validation/"
	// most is how long one of the programs may take. The longest makes 32 containers:
	// seven seconds at best, a minute with the tenth of a CPU that a busy machine has
	// for it.
	most = 10 * time.Minute
	// tries is how often a program is run that races by itself.
	tries = 8
)

// expectation is what is known of a program.
type expectation struct {
	fails int  // assertions that cannot hold, or -1: it cannot run to its end
	races bool // it passes when nothing comes between two of its steps
	why   string
}

// expectations reads testdata/runtime-tools.txt: a program, "pass", "races" or the
// number of assertions that fail ("-": it ends with an error), and why.
func expectations(t *testing.T) map[string]expectation {
	t.Helper()
	b, err := os.ReadFile("testdata/runtime-tools.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]expectation{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] == "#" {
			continue
		}
		e := expectation{why: strings.Join(f[2:], " ")}
		switch f[1] {
		case "pass":
		case "races":
			e.races = true
		case "-":
			e.fails = -1
		default:
			if e.fails, err = strconv.Atoi(f[1]); err != nil {
				t.Fatal(err)
			}
		}
		all[f[0]] = e
	}
	return all
}

// full skips what only `make conformance` runs.
func full(t *testing.T) {
	t.Helper()
	if os.Getenv("LADE_CONFORMANCE") == "" {
		t.Skip("make conformance runs it")
	}
	need.Root(t)
}

// TestRuntimeTools runs every validation program of OCI runtime-tools with
// lade-runtime, and with CONFORMANCE_PEERS=1 with Debian's runc too.
func TestRuntimeTools(t *testing.T) {
	full(t)
	alone(t)
	dir := t.TempDir()
	build(t, dir)
	rootfs(t, filepath.Join(dir, "rootfs-"+runtime.GOARCH+".tar.gz"))
	s := &suite{dir: dir, expected: expectations(t)}
	s.judge(t, "lade-runtime", need.Binary(t, "lade-runtime"), true)
	if os.Getenv("CONFORMANCE_PEERS") == "1" {
		s.judge(t, "runc", need.Program(t, "runc", "Debian's runc"), false)
	}
}

// alone waits until no other run of the programs is left on this machine: they all
// give their containers the same control groups.
func alone(t *testing.T) {
	t.Helper()
	f, err := os.Create(filepath.Join(harness.Cache(t), "runtime-tools.lock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := sys.Retry(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX) }); err != nil {
		t.Fatal(err)
	}
}

// build makes the programs.
func build(t *testing.T, dir string) {
	t.Helper()
	need.Program(t, "go", "the Go distribution")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", dir+"/", "github.com/opencontainers/runtime-tools/cmd/runtimetest", validation+"...")
	cmd.Dir = "tools"
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// rootfs writes the root file system that the programs unpack: Debian's static
// busybox under all its names.
func rootfs(t *testing.T, file string) {
	t.Helper()
	busybox := need.Program(t, "busybox", "Debian's busybox-static")
	raw, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	names, err := exec.CommandContext(t.Context(), busybox, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(f)
	w := tar.NewWriter(z)
	var failed error
	put := func(h tar.Header, content []byte) {
		h.Size = int64(len(content))
		err := w.WriteHeader(&h)
		if err == nil {
			_, err = w.Write(content)
		}
		failed = errors.Join(failed, err)
	}
	// The first one makes the directory it is unpacked to everybody's to enter.
	for _, d := range []string{".", "bin", "dev", "etc", "proc", "sys", "tmp", "usr", "var"} {
		put(tar.Header{Typeflag: tar.TypeDir, Name: d, Mode: 0o755}, nil)
	}
	put(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, raw)
	for _, n := range strings.Fields(string(names)) {
		if n != "busybox" {
			put(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + n, Linkname: "busybox"}, nil)
		}
	}
	if err := errors.Join(failed, w.Close(), z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// suite are the programs, built.
type suite struct {
	dir      string
	expected map[string]expectation
}

// judge runs all programs with one runtime and prints a table. With bound, what
// is expected must happen.
func (s *suite) judge(t *testing.T, name, program string, bound bool) {
	t.Helper()
	state := filepath.Join(t.TempDir(), "state")
	// The programs know a runtime by one word.
	command := filepath.Join(t.TempDir(), name)
	script := fmt.Sprintf("#!/bin/sh\nexec %s --root %s \"$@\"\n", program, state)
	if err := os.WriteFile(command, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	var total tally
	green := 0
	t.Logf("%-36s %6s %6s %6s  %s", name, "pass", "fail", "skip", "")
	for _, p := range s.programs(t) {
		got, err := s.run(t, p, command)
		for n := 1; n < tries && s.expected[p].races && (err != nil || got.fail > 0); n++ {
			t.Logf("%-36s %6d %6d %6d  again", p, got.pass, got.fail, got.skip)
			sweep(t, program, state)
			got, err = s.run(t, p, command)
		}
		total.add(got)
		if err == nil && got.fail == 0 {
			green++
		}
		t.Logf("%-36s %6d %6d %6d  %s", p, got.pass, got.fail, got.skip, verdict(err))
		if bound {
			s.compare(t, p, got, err)
		}
		sweep(t, program, state)
	}
	t.Logf("%-36s %6d %6d %6d  %d programs without a failure", name, total.pass, total.fail, total.skip, green)
}

func verdict(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

func (s *suite) programs(t *testing.T) (all []string) {
	t.Helper()
	list, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if n := e.Name(); n != "runtimetest" && !strings.HasPrefix(n, "rootfs-") && e.Type().IsRegular() {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all
}

func (s *suite) run(t *testing.T, program, command string) (tally, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), need.Patience(most))
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.dir, program))
	cmd.Dir = s.dir
	tmp := t.TempDir()
	t.Cleanup(func() { unmount(t, program, tmp) }) // before it is removed, and with it what a mount shows
	cmd.Env = append(os.Environ(), "RUNTIME="+command, "TMPDIR="+tmp)
	var out strings.Builder
	cmd.Stdout = &out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	return count(out.String()), err
}

// unmount takes away what a runtime has left mounted below a directory: runc does,
// in containers without a mount namespace.
func unmount(t *testing.T, program, dir string) {
	t.Helper()
	left, err := mount.Below(dir)
	if err != nil {
		t.Error(err)
	}
	for _, at := range left {
		t.Logf("%s has left a mount: %s", program, at)
		if err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
}

func (s *suite) compare(t *testing.T, program string, got tally, err error) {
	t.Helper()
	e, known := s.expected[program]
	switch {
	case !known:
		t.Errorf("%s: nothing is known of it in testdata/runtime-tools.txt", program)
	case e.fails == 0 && (err != nil || got.fail > 0):
		t.Errorf("%s: %d assertions fail, %v", program, got.fail, err)
	case e.fails > 0 && (err != nil || got.fail > e.fails):
		t.Errorf("%s: %d assertions fail, %d are expected to; %v", program, got.fail, e.fails, err)
	case e.fails != 0 && err == nil && got.fail == 0:
		t.Logf("%s passes now: %s", program, e.why)
	}
}

// sweep removes containers and control groups that a program has left.
func sweep(t *testing.T, program, state string) {
	t.Helper()
	left, err := os.ReadDir(state)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, c := range left {
		if out, err := exec.CommandContext(t.Context(), program, "--root", state, "delete", "--force", c.Name()).CombinedOutput(); err != nil {
			t.Errorf("%v %s", err, out)
		}
	}
	// The names are the programs' own: validation/util/linux_resources_*.go.
	for _, pattern := range []string{"cgrouptest", "testdir/cgrouptest/container", "testdir/cgrouptest", "testdir"} {
		for _, at := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
			dirs, _ := filepath.Glob(at + pattern)
			for _, d := range dirs {
				_ = os.Remove(d) // a group in use is not ours
			}
		}
	}
}
