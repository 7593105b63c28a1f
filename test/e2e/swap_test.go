package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"lade/internal/need"
	"lade/test/harness"
)

// TestSwap: a container that needs more than its memory gets on with swap, up
// to the sum of both that --memory-swap names. On a machine without swap it makes
// some for the moment.
func TestSwap(t *testing.T) {
	need.Root(t)
	addSwap(t, 192<<20)
	e := harness.Start(t)
	e.Import()
	// A buffer of that size, every byte of it written.
	eat := func(size string, flags ...string) int {
		t.Helper()
		args := append([]string{"run", "--rm", "--network", "none", "-m", "24m"}, flags...)
		_, stderr, code := e.Try(append(args, harness.Image, "dd", "if=/dev/zero", "of=/dev/null", "bs="+size, "count=1")...)
		if code != 0 && code != 137 {
			t.Errorf("%s, %v: %d, %s", size, flags, code, stderr)
		}
		return code
	}
	// Version 1 does not swap then, version 2 has no such thing.
	unswapped := 137
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		unswapped = 0
	}
	for _, tc := range []struct {
		size  string
		flags []string
		code  int
	}{
		{"64M", []string{"--memory-swap", "24m"}, 137},
		{"64M", []string{"--memory-swap", "96m"}, 0},
		{"112M", []string{"--memory-swap", "96m"}, 137},
		{"36M", nil, 0}, // twice the memory, if nothing is said
		{"64M", nil, 137},
		{"112M", []string{"--memory-swap", "-1"}, 0},
		{"64M", []string{"--memory-swap", "96m", "--memory-swappiness", "0"}, unswapped},
	} {
		if got := eat(tc.size, tc.flags...); got != tc.code {
			t.Errorf("%s in 24 MB with %v: exit code %d, want %d", tc.size, tc.flags, got, tc.code)
		}
	}

	e.Run("run", "-d", "--name", "live", "--network", "none", "-m", "24m", "--memory-swap", "24m", harness.Image, "sleep", "1000")
	steps := []struct {
		update []string
		code   int
	}{{nil, 137}, {[]string{"--memory-swap", "96m"}, 0}}
	if unswapped == 137 {
		steps = append(steps, struct {
			update []string
			code   int
		}{[]string{"--memory-swappiness", "0"}, 137})
	}
	for _, step := range steps {
		if step.update != nil {
			e.Run(append(append([]string{"update"}, step.update...), "live")...)
		}
		if _, stderr, code := e.Try("exec", "live", "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"); code != step.code {
			t.Errorf("64 MB in 24 MB after update %v: exit code %d, want %d: %s", step.update, code, step.code, stderr)
		}
	}
	e.Run("rm", "-f", "live")
}

// addSwap makes a file of that size one that the kernel swaps to, until the test
// ends, unless there is swap.
func addSwap(t *testing.T, size int) {
	t.Helper()
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		t.Fatal(err)
	}
	if info.Totalswap > 0 {
		return
	}
	path := filepath.Join(t.TempDir(), "swap")
	// mkswap(8): the header is the first page, which ends with the signature;
	// version and number of the last page follow 1024 bytes for boot loaders. The
	// file must have no holes.
	raw, page := make([]byte, size), os.Getpagesize()
	header := (*[2]uint32)(unsafe.Pointer(&raw[1024]))
	header[0], header[1] = 1, uint32(size/page-1)
	copy(raw[page-10:], "SWAPSPACE2")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		t.Fatal(err)
	}
	_, _, errno := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(name)), 0, 0)
	if errors.Is(errno, unix.ENOSYS) || errors.Is(errno, unix.EPERM) {
		t.Skipf("the kernel cannot swap here (%v): see scripts/test-vm", errno)
	}
	if errno != 0 {
		t.Fatal(errno)
	}
	t.Cleanup(func() {
		if _, _, errno := unix.Syscall(unix.SYS_SWAPOFF, uintptr(unsafe.Pointer(name)), 0, 0); errno != 0 {
			t.Error(errno)
		}
	})
}
