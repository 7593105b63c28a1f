package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/need"
)

// shellHook is a hook that adds its name, the state's status, its host name and
// the state's pid to a file.
func shellHook(name, file, more string) specs.Hook {
	script := `s=$(cat); f() { echo "$s" | sed -n "s/.*\"$1\":\"*\([^\",}]*\).*/\1/p"; }; ` +
		fmt.Sprintf(`echo %s $(f status) $(uname -n) $(f pid) %s >> %s`, name, more, file)
	return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}}
}

// TestHookOrder runs all six kinds: in the specification's order, each in its
// namespaces, with the process as it is numbered there.
func TestHookOrder(t *testing.T) {
	var log string
	r := newRig(t, func(s *specs.Spec) {
		s.Root.Readonly = false
		s.Hostname = "inside"
	})
	log = filepath.Join(r.bundle, "rootfs", "tmp", "log")
	r.edit(func(s *specs.Spec) {
		one := func(name, more string) []specs.Hook { return []specs.Hook{shellHook(name, log, more)} }
		rootfs := filepath.Join(r.bundle, "rootfs")
		s.Hooks = &specs.Hooks{
			//lint:ignore SA1019 Docker uses it
			Prestart:      one("prestart", ""),
			CreateRuntime: one("createRuntime", ""),
			// The container's mounts are seen below the root's path of the host.
			CreateContainer: one("createContainer", "$(readlink "+rootfs+"/proc/self/ns/uts | cut -c1-4)"),
			StartContainer:  []specs.Hook{{Path: "/payload", Args: []string{"/payload", "hook", "/tmp/log"}}},
			Poststart:       one("poststart", ""),
			Poststop:        one("poststop", ""),
		}
	})
	r.create()
	var s specs.State
	r.json(&s, "state", r.id)
	host, _ := os.Hostname()
	want := fmt.Sprintf("prestart creating %s %d\ncreateRuntime creating %[1]s %[2]d\ncreateContainer creating inside 1 uts:\n", host, s.Pid)
	if got := read(t, log); got != want {
		t.Errorf("after create:\n%swant\n%s", got, want)
	}
	r.do("start", r.id)
	want += fmt.Sprintf("startContainer created inside 1\npoststart running %s %d\n", host, s.Pid)
	if got := read(t, log); got != want {
		t.Errorf("after start:\n%swant\n%s", got, want)
	}
	r.do("delete", "--force", r.id)
	if got, want := read(t, log), want+"poststop stopped "+host+"\n"; got != want {
		t.Errorf("after delete:\n%swant\n%s", got, want)
	}
}

// TestHookFails lets a hook of each kind fail.
func TestHookFails(t *testing.T) {
	bad := []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo no luck; exit 3"}}}
	for _, c := range []struct {
		name string
		set  func(*specs.Hooks)
		verb string // that fails
	}{
		//lint:ignore SA1019 Docker uses it
		{"prestart", func(h *specs.Hooks) { h.Prestart = bad }, "create"},
		{"createRuntime", func(h *specs.Hooks) { h.CreateRuntime = bad }, "create"},
		{"createContainer", func(h *specs.Hooks) { h.CreateContainer = bad }, "create"},
		{"startContainer", func(h *specs.Hooks) {
			h.StartContainer = []specs.Hook{{Path: "/payload", Args: []string{"/payload", "exit", "1", "2"}}}
		}, "start"},
		{"poststart", func(h *specs.Hooks) { h.Poststart = bad }, "start"},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			r := newRig(t, func(s *specs.Spec) {
				s.Hooks = &specs.Hooks{Poststop: []specs.Hook{shellHook("poststop", log, "")}}
				c.set(s.Hooks)
			})
			if c.verb == "create" {
				code, msg := r.fails("create", "--bundle", r.bundle, r.id)
				if code != 1 || !strings.Contains(msg, "error running "+c.name+" hook #0: exit status 3, output: no luck") {
					t.Errorf("%d %s", code, msg)
				}
				if _, msg := r.fails("state", r.id); !strings.Contains(msg, "does not exist") {
					t.Error(msg)
				}
			} else {
				r.create()
				code, msg := r.fails("start", r.id)
				if code != 1 || !strings.Contains(msg, "error running "+c.name+" hook #0: exit status 3") {
					t.Errorf("%d %s", code, msg)
				}
				need.Eventually(t, "stopped", func() bool { return r.status() == "stopped" })
				r.do("delete", r.id)
			}
			if got := read(t, log); !strings.HasPrefix(got, "poststop stopped") {
				t.Errorf("poststop: %q", got)
			}
			r.nothingLeft()
		})
	}
}

// TestPoststopFails: what fails is told, the others run, the container is gone.
func TestPoststopFails(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	r := newRig(t, func(s *specs.Spec) {
		s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/false"}, shellHook("poststop", log, "")}}
	})
	r.create()
	if out, err := r.command("delete", r.id).CombinedOutput(); err != nil || !strings.Contains(string(out), "error running poststop hook #0") {
		t.Errorf("%v %s", err, out)
	}
	if got := read(t, log); !strings.HasPrefix(got, "poststop") {
		t.Errorf("%q", got)
	}
	r.nothingLeft()
}

// TestHookTimeout ends hooks that take too long, in both kinds of namespaces,
// also when a child of theirs keeps the output open.
func TestHookTimeout(t *testing.T) {
	second := 1
	slow := []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "sleep 20 & exec sleep 20"}, Env: []string{"PATH=/usr/bin:/bin"}, Timeout: &second}}
	for name, h := range map[string]specs.Hooks{"createRuntime": {CreateRuntime: slow}, "createContainer": {CreateContainer: slow}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(s *specs.Spec) { s.Hooks = &h })
			began := time.Now()
			code, msg := r.fails("create", "--bundle", r.bundle, r.id)
			if code != 1 || !strings.Contains(msg, "hook ran past specified timeout of 1s") || time.Since(began) > 10*time.Second {
				t.Errorf("%d after %v: %s", code, time.Since(began), msg)
			}
			r.nothingLeft()
		})
	}
	if _, msg := newRig(t, func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "relative"}}} }).failsCreate(); !strings.Contains(msg, "must be absolute") {
		t.Error(msg)
	}
}
