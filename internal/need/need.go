package need

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const inside = "LADE_TEST_INSIDE" // name of the test that runs in its own user namespace

// Userns runs the calling test again as uid 0 of a new user and mount
// namespace, so that tests that mount pass without root. It reports whether
// the caller is inside and should go on:
//
//	if !need.Userns(t) {
//		return
//	}
//
// Source: user_namespaces(7); the outer test passes when the inner one does.
func Userns(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) == t.Name() {
		return true
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"="+t.Name())
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	if err := cmd.Start(); err != nil {
		unmet(t, "a user namespace", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("inside the user namespace: %v", err)
	}
	return false
}

// Root needs the test to run as root.
func Root(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		unmet(t, "root", nil)
	}
}

// Program needs an executable on PATH and returns its path. What provides it
// is named for the reader of the failure ("Debian's docker-registry").
func Program(t testing.TB, name, from string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		unmet(t, name+" ("+from+")", err)
	}
	return p
}

// File needs a path of the system to exist, such as a control group file.
func File(t testing.TB, path, why string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		unmet(t, why, err)
	}
}

// Binary returns the path of a program of this repository: out of $LADE_BIN, or
// built for the test.
func Binary(t testing.TB, name string) string {
	t.Helper()
	if dir := os.Getenv("LADE_BIN"); dir != "" {
		return filepath.Join(dir, name)
	}
	Program(t, "go", "the Go distribution")
	path := filepath.Join(t.TempDir(), name)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "lade/cmd/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// Patience returns how long to wait for something that takes less than d on
// the machines that people have: d, times $LADE_TEST_SLOW on a slower one, such
// as an emulated one. It is for what would otherwise hang, never for what a
// test measures.
func Patience(d time.Duration) time.Duration {
	if n, err := strconv.Atoi(os.Getenv("LADE_TEST_SLOW")); err == nil && n > 1 {
		return time.Duration(n) * d
	}
	return d
}

// TellsExits reports whether the kernel tells how a process ended to those who
// are not its parent (PIDFD_INFO_EXIT, Linux 6.15). Where it does not, the exit
// code of a container whose supervisor died may be unknown.
func TellsExits(t testing.TB) bool {
	t.Helper()
	pidfd := -1
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", "exit 3")
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &pidfd}
	if err := cmd.Run(); err == nil || pidfd < 0 {
		t.Fatalf("sh did not exit with 3: %v", err)
	}
	defer unix.Close(pidfd)
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	err := unix.IoctlPidfdInfo(pidfd, &info)
	return err == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0
}

func unmet(t testing.TB, what string, err error) {
	t.Helper()
	if os.Getenv("LADE_TEST_REQUIRE") != "" {
		t.Fatalf("needs %s: %v", what, err)
	}
	t.Skipf("needs %s: %v", what, err)
}
