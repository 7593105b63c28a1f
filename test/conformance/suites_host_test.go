package conformance

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/need"
)

// ownHost gives the rest of the test, and what it starts, the network of a host
// of its own, in which names lead to the host itself. Suites take what they know
// of it (docker0, ports, names of registries), and remove links. It is the
// thread that has it, which ends with the test.
func ownHost(t *testing.T, names ...string) {
	t.Helper()
	hosts := filepath.Join(t.TempDir(), "hosts")
	runtime.LockOSThread()
	err := errors.Join(
		os.WriteFile(hosts, []byte("127.0.0.1 localhost "+strings.Join(names, " ")+"\n"), 0o644),
		unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS|unix.CLONE_NEWNET),
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, ""),
	)
	if err != nil {
		t.Fatal(err)
	}
	if err := quiet(t, need.Program(t, "ip", "Debian's iproute2"), "link", "set", "lo", "up"); err != nil {
		t.Fatal(err)
	}
}
