package need

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
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

func unmet(t testing.TB, what string, err error) {
	t.Helper()
	if os.Getenv("LADE_TEST_REQUIRE") != "" {
		t.Fatalf("needs %s: %v", what, err)
	}
	t.Skipf("needs %s: %v", what, err)
}
