package escape

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// TestHooks is CVE-2025-23266: a hook, which is a program of the host, has the
// environment of the image, or begins in the image's root, and so loads a library
// that the image says.
func TestHooks(t *testing.T) {
	w := newWorld(t)
	said := filepath.Join(w.dir, "said")
	c := newBundle(t, w.rootfs("root"), "whoami")
	c.Spec.Process.Env = append(c.Spec.Process.Env, "LD_PRELOAD=./evil.so", "IMAGE=1")
	c.Spec.Process.Cwd = "/etc"
	hook := func(name string) []specs.Hook {
		const script = `echo "$0 in $(pwd) $(test . -ef "$1" && echo inside):$(env | tr '\n' ' ')" >>"$2"`
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", script, name, c.root, said}}}
	}
	c.Spec.Hooks = &specs.Hooks{
		CreateRuntime: hook("createRuntime"), CreateContainer: hook("createContainer"), Poststart: hook("poststart"), Poststop: hook("poststop"),
	}
	out := c.run()
	raw, err := os.ReadFile(said)
	if err != nil || strings.Count(string(raw), "\n") != 4 {
		t.Fatalf("%v, %s%s", err, raw, out)
	}
	for line := range strings.Lines(string(raw)) {
		if strings.Contains(line, "LD_PRELOAD") || strings.Contains(line, "IMAGE") || strings.Contains(line, "inside") {
			t.Errorf("the hook %s", line)
		}
	}
}
