package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// TestBinds: directories and files of the host are mounted, whose clones the child
// makes in the host's mount namespace (Linux 6.15); it comes back to leave the
// host's root behind all the same, with hooks that look at it and without.
func TestBinds(t *testing.T) {
	for _, hooked := range []bool{false, true} {
		dir := t.TempDir()
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, []byte("the host's"), 0o644); err != nil {
			t.Fatal(err)
		}
		r := newRig(t, func(s *specs.Spec) {
			s.Process.Args = []string{"/payload", "cat", "/bound/file", "/alone", "/proc/self/mountinfo"}
			s.Mounts = append(s.Mounts,
				specs.Mount{Destination: "/bound", Source: dir, Type: "bind", Options: []string{"rbind"}},
				specs.Mount{Destination: "/alone", Source: file, Type: "bind", Options: []string{"bind", "ro"}})
			if hooked {
				s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/bin/true"}}}
			}
		})
		out := r.do("run", "--bundle", r.bundle, r.id)
		if !strings.HasPrefix(out, "the host'sthe host's") {
			t.Errorf("hooks %v: %s", hooked, out)
		}
		for line := range strings.Lines(out) {
			// Every mount lies below the container's own root.
			if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], r.bundle) {
				t.Errorf("hooks %v: the host's mounts are there: %s", hooked, line)
			}
		}
	}
}
