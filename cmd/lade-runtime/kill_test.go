package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/need"
)

// TestKilledAtEveryPoint ends verbs with SIGKILL at every place that has a name,
// and shows that what is left has a state, can be deleted, and leaves nothing.
func TestKilledAtEveryPoint(t *testing.T) {
	need.Root(t)
	mortal := filepath.Join(t.TempDir(), "lade-runtime")
	if out, err := exec.Command("go", "build", "-tags", "failpoint grpcnotrace", "-o", mortal, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	for _, c := range []struct {
		point, verb string
		status      string   // afterwards; "": there is no container
		then        []string // verbs that must work then
	}{
		{"runtime.reserved", "create", "", []string{"create"}},
		{"runtime.creating", "create", "stopped", nil},
		{"runtime.spawned", "create", "stopped", nil},
		{"runtime.created", "create", "created", []string{"start"}},
		{"runtime.creating", "run", "stopped", nil},
		{"runtime.spawned", "run", "stopped", nil},
		{"runtime.start", "start", "created", []string{"start"}},
		{"runtime.started", "start", "running", nil},
		{"runtime.ended", "delete", "stopped", []string{"delete"}},
		{"runtime.poststop", "delete", "stopped", []string{"delete"}},
		{"runtime.forgotten", "delete", "", []string{"create"}},
	} {
		t.Run(c.verb+"/"+c.point, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			r := newRig(t, func(s *specs.Spec) {
				s.Hooks = &specs.Hooks{Poststop: []specs.Hook{shellHook("poststop", log, "")}}
			})
			if c.verb == "start" || c.verb == "delete" {
				r.create()
			}
			if c.verb == "delete" {
				r.do("kill", r.id, "KILL")
				need.Eventually(t, "stopped", func() bool { return r.status() == "stopped" })
			}
			r.killAt(mortal, c.point, c.verb)
			r.after(c.status, c.then)
			r.do("delete", "--force", r.id)
			r.nothingLeft()
			if c.status != "" && !strings.HasPrefix(read(t, log), "poststop") {
				t.Error("the poststop hook has not run")
			}
		})
	}
}

// killAt runs a verb that is to be killed at a point.
func (r *rig) killAt(program, point, verb string) {
	r.t.Helper()
	arm := filepath.Join(r.t.TempDir(), "arm")
	if err := os.WriteFile(arm, []byte(point+" 1 token"), 0o600); err != nil {
		r.t.Fatal(err)
	}
	args := []string{"--root", r.root, verb}
	if verb == "create" || verb == "run" {
		args = append(args, "--bundle", r.bundle)
	}
	out, err := os.Create(filepath.Join(r.t.TempDir(), "out"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(program, append(args, r.id)...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), "LADE_FAILPOINT="+arm)
	if err := cmd.Run(); err == nil || err.Error() != "signal: killed" {
		r.t.Fatalf("%s was not killed at %s: %v %s", verb, point, err, read(r.t, out.Name()))
	}
}

// after looks at what a killed verb has left.
func (r *rig) after(status string, then []string) {
	r.t.Helper()
	if status == "" {
		if _, msg := r.fails("state", r.id); !strings.Contains(msg, "container does not exist") {
			r.t.Error(msg)
		}
	} else {
		need.Eventually(r.t, status, func() bool { return r.status() == status })
	}
	if got := strings.TrimSpace(r.do("list", "-q")); (got == r.id) != (status != "") {
		r.t.Errorf("list: %q", got)
	}
	for _, verb := range then {
		switch verb {
		case "create":
			r.do("delete", "--force", r.id)
			r.create()
		default:
			r.do(verb, r.id)
		}
	}
}
