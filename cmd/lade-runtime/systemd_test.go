package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/linux/systemd"
)

// TestSystemdCgroup: a scope with --systemd-cgroup, its limits, its end.
func TestSystemdCgroup(t *testing.T) {
	if !systemd.Running() {
		t.Skip("systemd is not the service manager here")
	}
	limit := int64(50)
	r := newRig(t, func(s *specs.Spec) {
		s.Linux.CgroupsPath = "ladetest-oci.slice:it:one"
		s.Linux.Resources.Pids = &specs.LinuxPids{Limit: &limit}
	})
	show := func(property string) string {
		out, err := exec.Command("systemctl", "show", "--value", "-p", property, "it-one.scope").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	create := r.command("--systemd-cgroup", "create", "--bundle", r.bundle, r.id)
	// Its process keeps the descriptors.
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	create.Stdout, create.Stderr = out, out
	if err := create.Run(); err != nil {
		said, _ := os.ReadFile(out.Name())
		t.Fatalf("%v: %s", err, said)
	}
	if got := show("ControlGroup"); got != "/ladetest.slice/ladetest-oci.slice/it-one.scope" {
		t.Errorf("group %q", got)
	}
	if got := show("TasksMax"); got != "50" {
		t.Errorf("TasksMax is %s", got)
	}
	r.do("start", r.id)
	r.do("update", "--pids-limit", "40", r.id)
	if got := show("TasksMax"); got != "40" {
		t.Errorf("after the update TasksMax is %s", got)
	}
	r.do("delete", "--force", r.id)
	if left, err := os.ReadDir("/sys/fs/cgroup/ladetest.slice/ladetest-oci.slice/it-one.scope"); err == nil {
		t.Errorf("left behind: %v", left)
	}
	bad := newRig(t, func(s *specs.Spec) { s.Linux.CgroupsPath = "/a/b" })
	said, err := bad.command("--systemd-cgroup", "create", "--bundle", bad.bundle, bad.id).CombinedOutput()
	if want := `expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"/a/b\" instead`; err == nil || !strings.Contains(string(said), want) {
		t.Errorf("%v %s", err, said)
	}
}
