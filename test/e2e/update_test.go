package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// TestUpdateMore changes running containers as Docker cannot, and looks from
// inside.
func TestUpdateMore(t *testing.T) {
	need.Root(t)
	e := harness.Start(t)
	source := filepath.Join(e.Dir, "source")
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(source, "file"), []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"", "auto"} {
		t.Run("userns="+user, func(t *testing.T) {
			e.Run("run", "-d", "--name", "box", "--init", "--userns", user, "--label", "old=1", "-e", "A=1", "lade/hello", "sleep", "1000")
			updateMounts(t, e, source)
			device := "/dev/fuse" // of root alone: the control group must let it
			if user != "" {
				device = "/dev/full" // of everybody: inside, root is nobody
			}
			updateRest(t, e, device)
			e.Run("rm", "-f", "box")
			e.Run("volume", "rm", "data")
		})
	}
	t.Run("refused", func(t *testing.T) { updateRefused(t, e) })
}

// update changes the container box and returns what was said of it.
func update(t *testing.T, e *harness.Engine, args ...string) string {
	t.Helper()
	out, said, code := e.Try(append(append([]string{"update"}, args...), "box")...)
	if code != 0 || strings.TrimSpace(out) != "box" {
		t.Fatalf("update %s: %d %q %q", args, code, out, said)
	}
	return strings.TrimSpace(said)
}

func inC(t *testing.T, e *harness.Engine, script string) string {
	t.Helper()
	return e.Run("exec", "box", "sh", "-c", script)
}

func updateMounts(t *testing.T, e *harness.Engine, source string) {
	t.Helper()
	said := update(t, e, "--mount-add", "type=bind,src="+source+",dst=/in/here,readonly", "--mount-add", "type=volume,src=data,dst=/data", "--mount-add", "type=tmpfs,dst=/scratch", "--mount-add", "type=image,src=lade/hello,dst=/image")
	if said != "box: changed now: mount /in/here, mount /data, mount /scratch, mount /image" {
		t.Errorf("adding mounts: %q", said)
	}
	if got := inC(t, e, "cat /in/here/file; touch /in/here/x 2>&1 | grep -o 'read-only'; echo kept >/data/f; echo >/scratch/f && test -e /image/bin/sh && echo all"); got != "of the host\nread-only\nall" && got != "of the hostread-only\nall" {
		t.Errorf("what is mounted: %q", got)
	}
	if _, errOut, code := e.Try("volume", "rm", "data"); code == 0 || !strings.Contains(errOut, "volume is in use") {
		t.Errorf("the volume is free: %q", errOut)
	}
	e.Run("restart", "-t", "0", "box")
	if got := inC(t, e, "cat /data/f /in/here/file"); got != "kept\nof the host" {
		t.Errorf("after a restart: %q", got)
	}
	said = update(t, e, "--mount-rm", "/data", "--mount-rm", "/in/here")
	if said != "box: changed now: mount /data removed, mount /in/here removed" && !strings.HasPrefix(said, "box: needs a restart: ") {
		t.Errorf("removing mounts: %q", said)
	}
	if strings.HasPrefix(said, "box: needs a restart: ") {
		e.Run("restart", "-t", "0", "box")
	}
	if got := inC(t, e, "ls /data /in/here; grep -c ' /data ' /proc/self/mounts; true"); strings.Contains(got, "f\n") || !strings.HasSuffix(got, "0") {
		t.Errorf("still mounted: %q", got)
	}
}

func updateRest(t *testing.T, e *harness.Engine, device string) {
	t.Helper()
	said := update(t, e, "--device-add", device+":/dev/wire", "-e", "B=2", "-e", "C=3", "--env-rm", "A", "--label", "new=2", "--label-rm", "old", "--log-opt", "max-size=1m", "-m", "64m", "--memory-swap", "64m")
	if said != "box: changed now: labels, device /dev/wire\nbox: needs a restart: environment, log options" {
		t.Errorf("changing the rest: %q", said)
	}
	// The device can be opened, not only seen.
	if got := inC(t, e, ": </dev/wire && echo open"); got != "open" {
		t.Errorf("the device: %q", got)
	}
	const layout = "{{.Config.Labels.new}} {{.Config.Labels.old}} {{.HostConfig.LogConfig.Config}} {{.HostConfig.Memory}}"
	if got := e.Run("inspect", "-f", layout, "box"); got != "2 <no value> map[max-size:1m] 67108864" {
		t.Errorf("inspect: %s", got)
	}
	if got := e.Run("ps", "-q", "--filter", "label=new=2"); got == "" {
		t.Error("the label is not found")
	}
	if got := inC(t, e, "echo $A$B$C"); got != "1" && got != "23" { // an exec has the new ones already
		t.Errorf("environment of an exec: %q", got)
	}
	e.Kill()
	e.Launch()
	e.Run("restart", "-t", "0", "box")
	if got := e.Run("exec", "box", "sh", "-c", "tr '\\0' '\\n' </proc/1/environ | grep -E '^[ABC]='; : </dev/wire && echo open"); got != "B=2\nC=3\nopen" {
		t.Errorf("after a restart: %q", got)
	}
}

func updateRefused(t *testing.T, e *harness.Engine) {
	e.Run("run", "-d", "--name", "box", "--init", "-v", "/anonymous", "lade/hello", "sleep", "1000")
	before := e.Run("inspect", "box")
	for args, want := range map[string]string{
		"--mount-rm /nope":                                         "the container has no mount at /nope",
		"--mount-rm /anonymous":                                    "the container's own volume",
		"--mount-add type=bind,src=/nonexistent,dst=/x":            "bind source path does not exist: /nonexistent",
		"--mount-add type=tmpfs,dst=/anonymous":                    "Duplicate mount point: /anonymous",
		"--mount-add type=volume,src=lost,dst=/x --mount-rm /nope": "the container has no mount at /nope",
		"--mount-add type=tmpfs,dst=/":                             "destination can't be '/'",
		"--device-add /dev/nope":                                   "/dev/nope",
		"--device-rm /dev/nope":                                    "the container has no device at /dev/nope",
		"--log-opt nope=1":                                         "unknown log opt 'nope' for json-file log driver",
	} {
		if out, errOut, code := e.Try(append(append([]string{"update"}, strings.Fields(args)...), "box")...); code != 1 || out != "" || !strings.Contains(errOut, want) {
			t.Errorf("%s: %d %q %q", args, code, out, errOut)
		}
	}
	if after := e.Run("inspect", "box"); after != before {
		t.Errorf("something was changed:\n%s\n%s", before, after)
	}
	if out := e.Run("volume", "ls", "-q", "--filter", "name=lost"); out != "" {
		t.Error("a volume was made for nothing")
	}
	e.Run("rm", "-f", "-v", "box")
}
