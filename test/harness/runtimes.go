package harness

import (
	"path/filepath"
	"testing"

	"lade/internal/need"
)

// Runtimes returns, by a name, the flags of laded with which every container has
// a certain runtime: "own" is lade's, "runc" and "lxc" are Debian's, "itself" is
// lade-runtime in the role of another's.
func Runtimes(t testing.TB) map[string][]string {
	t.Helper()
	other := func(path string) []string {
		return []string{"--add-runtime", "other=" + path, "--default-runtime", "other"}
	}
	need.Program(t, "lxc-start", "Debian's lxc")
	return map[string][]string{
		"own":    nil,
		"runc":   other(need.Program(t, "runc", "Debian's runc")),
		"itself": other(filepath.Join(Bin(t), "lade-runtime")),
		"lxc":    {"--default-runtime", "lxc"},
	}
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
