package crash

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"lade/test/harness"
)

// TestReboot restarts the machine, as far as an engine can tell: every process
// is gone, so is what was on a tmpfs, and the kernel has another boot id.
// Restart policies apply, what was running has ended for a reason, and events
// tell of it.
func TestReboot(t *testing.T) {
	e := harness.Start(t)
	img := e.Import()
	for name, policy := range map[string]string{"plain": "no", "always": "always", "unless": "unless-stopped", "stopped": "unless-stopped", "failing": "on-failure:1"} {
		e.Run("run", "-d", "--name", name, "--restart", policy, img, "sleep", "1000")
	}
	e.Run("stop", "-t", "0", "stopped")
	e.Kill()
	dieWithMachine(t, e)
	rebooted(t, e)
	e.Launch()
	for _, name := range []string{"always", "unless", "failing"} { // its end counts as a failure
		becomes(t, e, name, `printf "%s %d" .State.Status .RestartCount`, "running 0")
	}
	wants(t, e, "plain", `printf "%s %d %s" .State.Status .State.ExitCode .State.Error`, "exited 255 the machine was restarted while the container ran")
	wants(t, e, "stopped", ".State.Status", "exited")
	out := e.Run("events", "--since", "1h", "--until", now(), "--filter", "event=die", "--filter", "event=stop", "--format", "{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}")
	for _, want := range []string{"stop stopped", "die plain 255", "die always 255"} {
		if !strings.Contains(out, want) {
			t.Errorf("no event %q in\n%s", want, out)
		}
	}
	died := e.Run("why-died", "plain")
	for _, want := range []string{"Exit code: 255", "Error:     the machine was restarted while the container ran"} {
		if !strings.Contains(died, want) {
			t.Errorf("no %q in\n%s", want, died)
		}
	}
}

// dieWithMachine ends the supervisor and all containers at once, and takes away
// what a tmpfs had.
func dieWithMachine(t *testing.T, e *harness.Engine) {
	t.Helper()
	if err := syscall.Kill(e.Supervisor(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/pids/" + e.Group() + "/*/cgroup.procs")
	if err != nil || len(groups) == 0 {
		groups, err = filepath.Glob("/sys/fs/cgroup/" + e.Group() + "/*/cgroup.procs")
	}
	if err != nil || len(groups) != 4 {
		t.Fatalf("control groups: %q, %v", groups, err)
	}
	for _, g := range groups {
		raw, err := os.ReadFile(g)
		if err != nil {
			t.Fatal(err)
		}
		for pid := range strings.FieldsSeq(string(raw)) {
			var n int
			if _, err := fmt.Sscan(pid, &n); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	soon(t, func() error {
		for _, g := range groups {
			if raw, err := os.ReadFile(g); err == nil && len(raw) > 0 {
				return fmt.Errorf("%s: %s", g, raw)
			}
		}
		return nil
	})
	// The groups' notes are kept: here they tell the engine to remove the groups,
	// which a restart of the machine would have done.
	if err := os.RemoveAll(filepath.Join(e.Dir, "exec/exits")); err != nil {
		t.Fatal(err)
	}
}

// rebooted has the daemon see another boot id.
func rebooted(t *testing.T, e *harness.Engine) {
	t.Helper()
	bin := filepath.Join(e.Dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	id := filepath.Join(bin, "boot_id")
	if err := os.WriteFile(id, []byte("00000000-0000-4000-8000-000000000000\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	wrapper := fmt.Sprintf("#!/bin/sh\nexec unshare -m sh -c 'mount --bind %s /proc/sys/kernel/random/boot_id && exec %s/laded \"$@\"' laded \"$@\"\n", id, e.Bin)
	if err := os.WriteFile(filepath.Join(bin, "laded"), []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lade", "lade-supervisor", "lade-runtime", "lade-init"} {
		if err := os.Symlink(filepath.Join(e.Bin, name), filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	e.Bin = bin
}

// now is the present time as events --until has it.
func now() string {
	at := time.Now()
	return fmt.Sprintf("%d.%09d", at.Unix(), at.Nanosecond())
}

// TestShutdown stops all containers, those first that depend on others, and
// starts those again with the next engine whose policy wants it.
func TestShutdown(t *testing.T) {
	e := harness.Start(t)
	img := e.Import()
	e.Run("run", "-d", "--name", "db", "--restart", "unless-stopped", img, "sleep", "1000")
	e.Run("run", "-d", "--name", "side", "--network", "container:db", img, "sleep", "1000")
	e.Run("run", "-d", "--name", "stopped", "--restart", "unless-stopped", img, "sleep", "1000")
	e.Run("stop", "-t", "0", "stopped")
	for _, compose := range []string{"a=", "b=a:service_started:false", "c=b:service_healthy:true"} {
		service, on, _ := strings.Cut(compose, "=")
		e.Run("run", "-d", "--name", service+"1", "--label", "com.docker.compose.project=p", "--label", "com.docker.compose.service="+service,
			"--label", "com.docker.compose.depends_on="+on, img, "sleep", "1000")
	}
	if got := strings.Count(e.Run("system", "shutdown", "-t", "0"), "\n"); got != 4 { // five lines
		t.Errorf("%d lines", got+1)
	}
	wants(t, e, "db", ".State.Status", "exited")
	out := e.Run("events", "--since", "1h", "--until", now(), "--filter", "event=die", "--format", "{{.Actor.Attributes.name}}")
	order := strings.Fields(out)
	for _, pair := range [][2]string{{"side", "db"}, {"c1", "b1"}, {"b1", "a1"}} {
		if slices.Index(order, pair[0]) > slices.Index(order, pair[1]) {
			t.Errorf("%s ended before %s: %q", pair[1], pair[0], order)
		}
	}
	e.Stop()
	e.Launch()
	becomes(t, e, "db", ".State.Status", "running")
	wants(t, e, "side", ".State.Status", "exited")
	wants(t, e, "stopped", ".State.Status", "exited")
}
