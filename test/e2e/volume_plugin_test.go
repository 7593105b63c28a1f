package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lade/internal/need"
	"lade/internal/volume/volumetest"
	"lade/test/harness"
)

// TestVolumePlugin has Docker's client use volumes of a driver that is a program of
// its own, over a death of the daemon.
func TestVolumePlugin(t *testing.T) {
	need.Root(t)
	docker := need.Program(t, "docker", "Docker's client")
	d := volumetest.New(t)
	name := fmt.Sprintf("ladeshelf%d", os.Getpid())
	socket := filepath.Join(t.TempDir(), "s")
	need.ServeHTTP(t, socket, d)
	put(t, "/etc/docker/plugins", name+".spec", "unix://"+socket)
	e := harness.Start(t)
	try := func(args ...string) (string, error) {
		out, err := e.Command(docker, args...).CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := try(args...)
		if err != nil {
			t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	settled := func(volume string, users int) {
		t.Helper()
		need.Eventually(t, fmt.Sprintf("the driver has %d users of %s", users, volume), func() bool { return len(d.Users(volume)) == users })
	}

	run("volume", "create", "-d", name, "-o", "shelf=upper", "--label", "k=v", "books")
	run("run", "--rm", "-v", "books:/b", "lade/hello", "sh", "-c", "echo Ulysses > /b/one")
	if b, err := os.ReadFile(filepath.Join(d.Dir, "books", "one")); err != nil || string(b) != "Ulysses\n" {
		t.Errorf("the driver's directory has %q, %v", b, err)
	}
	settled("books", 0)
	run("run", "-d", "--name", "reader", "--mount", "type=volume,source=books,target=/b,readonly", "lade/hello", "sleep", "1000")
	run("run", "-d", "--name", "other", "--volume-driver", name, "-v", "papers:/p", "-v", "/mine", "lade/hello", "sleep", "1000")
	settled("books", 1)
	if got := run("exec", "reader", "cat", "/b/one"); got != "Ulysses" {
		t.Errorf("read %q", got)
	}
	if got := run("volume", "inspect", "-f", "{{.Driver}} {{.Scope}} {{.Mountpoint}} {{.Options.shelf}} {{.Labels.k}} {{.Status.colour}}", "books"); got != name+" global "+filepath.Join(d.Dir, "books")+" upper v blue" {
		t.Errorf("inspect: %s", got)
	}
	if got := run("info", "-f", "{{.Plugins.Volume}}"); got != "[local "+name+"]" {
		t.Errorf("info: %s", got)
	}
	if got := strings.Fields(run("volume", "ls", "-q", "--filter", "driver="+name)); len(got) != 3 {
		t.Errorf("volume ls: %q", got)
	}
	if out, err := try("volume", "rm", "books"); err == nil || !strings.Contains(out, "remove books: volume is in use - [") {
		t.Errorf("removed in use: %s", out)
	}

	e.Kill()
	e.Launch()
	if got := run("exec", "reader", "cat", "/b/one"); got != "Ulysses" {
		t.Errorf("after the daemon's death: read %q", got)
	}
	settled("books", 1)
	run("stop", "-t", "0", "reader")
	settled("books", 0)
	run("start", "reader")
	settled("books", 1)
	run("rm", "-f", "reader")
	settled("books", 0)
	run("rm", "-fv", "other") // its anonymous volume with it
	if got := d.Volumes(); !slices.Equal(got, []string{"books", "papers"}) {
		t.Errorf("the driver has %q", got)
	}
	run("volume", "prune", "-af")
	run("volume", "rm", "books", "papers")
	if got := d.Volumes(); len(got) > 0 {
		t.Errorf("the driver has %q after all were removed", got)
	}
	d.Fail("Create", "the shelf is full")
	if out, err := try("volume", "create", "-d", name, "full"); err == nil || out != "Error response from daemon: create full: VolumeDriver.Create: the shelf is full" {
		t.Errorf("an error of the driver: %s", out)
	}
}
