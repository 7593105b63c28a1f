package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lade/test/harness"
)

// TestSeccompKept: what is executed in a container has the profile that the
// container was started with, and no_new_privs as it was made, whatever the
// daemon is configured with by then: killed, configured anew, and with it the
// supervisor.
func TestSeccompKept(t *testing.T) {
	e := harness.Start(t)
	profile := filepath.Join(e.Dir, "profile.json")
	configure := func(config string) {
		t.Helper()
		e.Kill()
		if err := os.WriteFile(filepath.Join(e.Dir, "daemon.json"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		e.Launch()
	}
	run := func(name string, args ...string) {
		t.Helper()
		e.Run(append(append([]string{"run", "-d", "--network", "none", "--name", name}, args...), "lade/hello", "sleep", "1000")...)
	}
	// is compares what an exec may do with what is expected: "Seccomp: NoNewPrivs:
	// DENIED" of a container.
	is := func(when, name, want string) {
		t.Helper()
		out, stderr, code := e.Try("exec", name, "sh", "-c", `s=$(grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | cut -f2 | tr '\n' ' '); if mkdir /x 2>/dev/null; then rmdir /x; echo "${s}free"; else echo "${s}denied"; fi`)
		if got := strings.TrimSpace(out); code != 0 || got != want {
			t.Errorf("%s, in %s: %q, want %q (no_new_privs, seccomp, mkdir); %d %s", when, name, got, want, code, stderr)
		}
	}
	if err := os.WriteFile(profile, []byte(denyMkdir), 0o644); err != nil {
		t.Fatal(err)
	}
	run("builtin")
	configure(`{"seccomp-profile": "` + profile + `", "no-new-privileges": true}`)
	run("kept")
	run("own", "--security-opt", "seccomp=builtin", "--security-opt", "no-new-privileges=false")
	run("privileged", "--privileged")
	all := func(when string) {
		t.Helper()
		is(when, "builtin", "0 2 free")
		is(when, "kept", "1 2 denied")
		is(when, "own", "0 2 free")
		is(when, "privileged", "1 0 free")
	}
	all("configured with the profile")
	if err := os.Remove(profile); err != nil {
		t.Fatal(err)
	}
	configure(`{}`)
	all("configured with nothing")
	configure(`{"seccomp-profile": "unconfined"}`)
	all("configured with unconfined")
	if err := syscall.Kill(e.Supervisor(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	configure(`{}`)
	all("with a new supervisor")
	e.Run("restart", "-t", "0", "kept", "builtin")
	is("restarted", "kept", "1 2 free")
	is("restarted", "builtin", "0 2 free")
}
