package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/need"
	"lade/test/harness"
)

// TestRunsc runs containers in gVisor, whose processes are not processes of the
// host: what goes by the runtime's verbs and not by the kernel. Debian's runsc (2022)
// takes every network namespace of a kernel of today for the host's; there it gets
// none, and what needs one is left to test-vm.
func TestRunsc(t *testing.T) {
	need.Root(t)
	program := need.Program(t, "runsc", "Debian's runsc")
	e := harness.Start(t)
	e.Stop()
	config := `{"runtimes": {"offline": {"path": "` + program + `", "runtimeArgs": ["--network=none"]}}}`
	if err := os.WriteFile(filepath.Join(e.Dir, "daemon.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	e.Launch()
	runtime, command := "runsc", []string{"lade/hello", "sh", "-c", "uname -r; exit 3"}
	run := func(args ...string) []string { return append([]string{"run", "--runtime", runtime}, args...) }
	out, stderr, code := e.Try(append(run("--rm"), command...)...)
	connected := !strings.Contains(stderr, "root network namespace")
	if !connected {
		t.Log("without a network: " + stderr)
		runtime = "offline"
		out, stderr, code = e.Try(append(run("--rm"), command...)...)
	}
	if host := kernel(t); strings.TrimSpace(out) == "" || strings.TrimSpace(out) == host || code != 3 {
		t.Errorf("its kernel is %q, the host's is %q; exit code %d, want 3\n%s", out, host, code, stderr)
	}
	e.Run(run("-d", "--name", "box", "-m", "256m", "-v", "kept:/data", "-p", "127.0.0.1:"+harness.FreePort(t)+":80", "lade/hello",
		"sh", "-c", "echo stored > /data/index.html; echo ready; exec httpd -p 80 -h /data")...)
	need.Eventually(t, "it is ready", func() bool { return strings.Contains(e.Run("logs", "box"), "ready") })
	for range 2 { // before and after a restart of the daemon
		if out, _, code := e.Try("exec", "box", "sh", "-c", "cat /data/index.html; exit 5"); strings.TrimSpace(out) != "stored" || code != 5 {
			t.Errorf("exec: %q, %d", out, code)
		}
		if out := e.Run("exec", "-t", "box", "sh", "-c", "[ -t 1 ] && echo terminal"); strings.TrimSpace(out) != "terminal" {
			t.Errorf("exec with a terminal: %q", out)
		}
		if out := e.Run("stats", "--no-stream", "--format", "{{.MemUsage}}", "box"); strings.HasPrefix(out, "0B") || !strings.HasSuffix(out, "/ 256MiB") {
			t.Errorf("stats: %q", out)
		}
		e.Run("pause", "box")
		if out := e.Run("inspect", "-f", "{{.State.Status}} {{.HostConfig.Runtime}}", "box"); out != "paused "+runtime {
			t.Errorf("paused: %q", out)
		}
		e.Run("unpause", "box")
		if connected {
			address := e.Run("port", "box", "80")
			need.Eventually(t, "it serves", func() bool { body, err := get(address); return err == nil && body == "stored" })
		}
		e.Stop()
		e.Launch()
	}
	if _, stderr, code := e.Try("exec", "box", "no-such-command"); code != 127 {
		t.Errorf("a command that is not there: %d %s", code, stderr)
	}
	e.Run("stop", "-t", "1", "box")
	if out := e.Run("inspect", "-f", "{{.State.ExitCode}}", "box"); out != "137" && out != "143" {
		t.Errorf("stopped: exit code %s", out)
	}
	e.Run("start", "box")
	need.Eventually(t, "it is ready again", func() bool { return strings.Count(e.Run("logs", "box"), "ready") == 2 })
	e.Run("kill", "box")
	if out := e.Run("wait", "box"); out != "137" {
		t.Errorf("killed: exit code %s", out)
	}
	e.Run("rm", "box")
	e.Run("volume", "rm", "kept")
}

// kernel is the release of the host's.
func kernel(t *testing.T) string {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	return unix.ByteSliceToString(u.Release[:])
}
