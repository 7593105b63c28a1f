package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// TestCDI has Docker's client ask for devices of the Container Device Interface:
// a node, a mount, a variable, a group, and a hook, which lade's own runtime runs
// as an OCI command.
func TestCDI(t *testing.T) {
	need.Root(t)
	docker := need.Program(t, "docker", "Docker's client")
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("library", "the vendor's\n")
	write("hook", "#!/bin/sh\ncat > "+dir+"/state\n")
	write("plain.json", `{"cdiVersion": "0.6.0", "kind": "vendor.example/thing", "devices": [{"name": "plain", "containerEdits": {
		"env": ["THING=plain"], "deviceNodes": [{"path": "/dev/thing", "hostPath": "/dev/zero"}],
		"mounts": [{"hostPath": "`+dir+`/library", "containerPath": "/opt/library", "options": ["ro"]}], "additionalGids": [777]}}]}`)
	write("hooked.yaml", `
cdiVersion: "0.6.0"
kind: vendor.example/hooked
devices:
- name: "0"
  containerEdits:
    env: [ "THING=hooked" ]
    hooks:
    - { hookName: createRuntime, path: `+dir+`/hook }
`)
	e := harness.Start(t, "--cdi-spec-dir="+dir)
	// The two streams come by themselves: in which order is anybody's guess.
	try := func(args ...string) (stdout, stderr string, err error) {
		var out, messages bytes.Buffer
		cmd := e.Command(docker, args...)
		cmd.Stdout, cmd.Stderr = &out, &messages
		err = cmd.Run()
		return strings.TrimSpace(out.String()), messages.String(), err
	}
	run := func(args ...string) string {
		t.Helper()
		out, stderr, err := try(args...)
		if err != nil {
			t.Fatalf("docker %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr)
		}
		return out
	}
	run("pull", "-q", "lade/hello")
	got := run("run", "--rm", "--device", "vendor.example/thing=plain", "--user", "1:1", "lade/hello",
		"sh", "-c", "echo $THING; head -c 3 /dev/thing | wc -c; cat /opt/library; id -G; echo x > /opt/library || echo read-only")
	if got = strings.Join(strings.Fields(got), " "); !strings.HasPrefix(got, "plain 3 the vendor's") || !strings.Contains(got, "777") || !strings.HasSuffix(got, "read-only") {
		t.Errorf("plain: %s", got)
	}
	run("run", "-d", "--name", "hooked", "--device", "vendor.example/hooked=0", "--device", "vendor.example/thing=plain", "lade/hello", "sleep", "1000")
	state, err := os.ReadFile(filepath.Join(dir, "state"))
	if id := run("inspect", "-f", "{{.Id}}", "hooked"); err != nil || !strings.Contains(string(state), id) {
		t.Errorf("the hook was told %s, %v", state, err)
	}
	if got := run("exec", "hooked", "cat", "/opt/library"); got != "the vendor's" {
		t.Errorf("in the container with the hook: %s", got)
	}
	run("restart", "-t", "0", "hooked")
	if got := run("exec", "hooked", "cat", "/proc/1/environ"); !strings.Contains(got, "THING=plain") { // the later device's
		t.Errorf("after a restart: %q", got)
	}
	run("rm", "-f", "hooked")
	if got := run("info", "-f", "{{.CDISpecDirs}}"); got != "["+dir+"]" {
		t.Errorf("info: %s", got)
	}
	if got := run("info"); !strings.Contains(got, "cdi: vendor.example/hooked=0") {
		t.Errorf("no devices in info:\n%s", got)
	}
	if _, stderr, err := try("run", "--rm", "--device", "vendor.example/thing=none", "lade/hello"); err == nil || !strings.Contains(stderr, "CDI device injection failed: unresolvable CDI devices vendor.example/thing=none") {
		t.Errorf("unknown: %v, %s", err, stderr)
	}
	if _, stderr, err := try("run", "--rm", "--gpus", "all", "lade/hello"); err == nil || !strings.Contains(stderr, `could not select device driver "" with capabilities: [[gpu]]`) {
		t.Errorf("no card: %v, %s", err, stderr)
	}
	write("gpu.json", `{"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu", "devices": [{"name": "all", "containerEdits": {"env": ["CARDS=all"]}}, {"name": "0", "containerEdits": {"env": ["CARDS=0"]}}]}`)
	for flag, want := range map[string]string{"all": "all", "1": "0", "device=0": "0"} {
		if got := run("run", "--rm", "--gpus", flag, "lade/hello", "sh", "-c", "echo $CARDS"); got != want {
			t.Errorf("--gpus %s: %s", flag, got)
		}
	}
}
