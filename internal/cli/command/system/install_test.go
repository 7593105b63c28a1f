package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestInstall installs twice, the second time over programs that are there.
func TestInstall(t *testing.T) {
	from, dest := t.TempDir(), t.TempDir()
	i := installation{from: from, prefix: "/opt/lade", dest: dest}
	if err := i.complete(); err == nil || !strings.Contains(err.Error(), "lade-supervisor, lade-runtime") {
		t.Errorf("no programs: %v", err)
	}
	for _, build := range []string{"one", "two"} {
		for _, p := range programs {
			if err := os.WriteFile(filepath.Join(from, p), []byte(build), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		i := installation{from: from, prefix: "/opt/lade", dest: dest}
		if err := i.complete(); err != nil {
			t.Fatal(err)
		}
		if err := i.run(); err != nil {
			t.Fatal(err)
		}
		for link := range called {
			at := filepath.Join(dest, "opt/lade", link)
			raw, err := os.ReadFile(at)
			is, statErr := os.Stat(at)
			if err != nil || statErr != nil || string(raw) != build || is.Mode() != 0o755 {
				t.Errorf("%s is %q of build %s: %v %v", at, raw, build, err, statErr)
			}
		}
	}
	if bin, err := os.ReadDir(filepath.Join(dest, "opt/lade/bin")); err != nil || len(bin) != 2 {
		t.Errorf("bin has %v: %v", bin, err)
	}
	raw, err := os.ReadFile(filepath.Join(dest, "opt/lade/lib/systemd/system/lade.service"))
	if err != nil || !strings.Contains(string(raw), "ExecStart=/opt/lade/sbin/laded ") || strings.Contains(string(raw), "@") {
		t.Errorf("%v\n%s", err, raw)
	}
	left, err := filepath.Glob(filepath.Join(dest, "opt/lade/libexec/lade/*"))
	if hidden, _ := filepath.Glob(filepath.Join(dest, "opt/lade/libexec/lade/.*")); err != nil || len(left) != len(programs) || len(hidden) > 0 {
		t.Errorf("%v %v", left, hidden)
	}
	for _, bad := range []installation{{from: from, prefix: "opt"}, {from: from, prefix: "/a b"}, {from: from, prefix: "/opt", units: "x"}} {
		if err := bad.complete(); err == nil || !strings.Contains(err.Error(), "absolute path") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
