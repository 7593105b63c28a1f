package harness

import (
	"os"
	"path/filepath"
	"testing"

	"lade/internal/need"
)

// Runtimes returns, by a name, the flags of laded with which every container has
// a certain runtime: "own" is lade's, "runc" and "lxc" are Debian's, and so is
// "crun", which is there where control groups are of version 2; "itself" is
// lade-runtime in the role of another's.
func Runtimes(t testing.TB) map[string][]string {
	t.Helper()
	other := func(path string) []string {
		return []string{"--add-runtime", "other=" + path, "--default-runtime", "other"}
	}
	need.Program(t, "lxc-start", "Debian's lxc")
	all := map[string][]string{
		"own":    nil,
		"runc":   other(need.Program(t, "runc", "Debian's runc")),
		"itself": other(filepath.Join(Bin(t), "lade-runtime")),
		"lxc":    {"--default-runtime", "lxc"},
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil { // it refuses hybrid control groups
		all["crun"] = other(need.Program(t, "crun", "Debian's crun"))
	}
	return all
}

// EachRuntime runs a test with the flags of each, side by side.
func EachRuntime(t *testing.T, test func(t *testing.T, flags ...string)) {
	for name, flags := range Runtimes(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, append(flags, Apart()...)...)
		})
	}
}
