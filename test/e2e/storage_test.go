package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/system"

	"lade/internal/need"
	"lade/internal/snapshot/snapshottest"
	"lade/test/harness"
)

// statusOf returns a row of what info tells of the driver.
func statusOf(i system.Info, name string) string {
	for _, row := range i.DriverStatus {
		if row[0] == name {
			return row[1]
		}
	}
	return ""
}

// snapshotDirs counts the directories of snapshots of a driver.
func snapshotDirs(t *testing.T, e *harness.Engine, driver string) int {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(e.Dir, "data", driver, "s", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestStorageBtrfs runs containers on btrfs, with the unmodified docker client.
func TestStorageBtrfs(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "docker-cli")
	disk := snapshottest.Disk{Type: "btrfs", Mkfs: []string{"mkfs.btrfs", "-q"}, From: "btrfs-progs", Size: 1 << 30}
	t.Setenv("TMPDIR", disk.Mount(t))
	e := harness.Start(t, "--storage-driver", "btrfs")
	if i := info(t, e); i.Driver != "btrfs" || statusOf(i, "Chosen Because") != "it was asked for" {
		t.Errorf("%s: %v", i.Driver, i.DriverStatus)
	}
	img := e.Import()
	docker := func(args ...string) string {
		t.Helper()
		out, err := e.Command("docker", args...).CombinedOutput()
		if err != nil {
			t.Errorf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	docker("run", "--name", "one", img, "sh", "-c", "echo new >/new; echo more >>/etc/passwd; rm /bin/wget; mkdir /var/d")
	if got, want := docker("diff", "one"), "C /bin\nD /bin/wget\nC /etc\nC /etc/passwd\nA /new\nC /var\nA /var/d\n"; got != want {
		t.Errorf("diff\n%s, want\n%s", got, want)
	}
	docker("start", "one")
	if out := docker("cp", "one:/new", filepath.Join(e.Dir, "copy")); strings.Contains(out, "rror") {
		t.Error(out)
	}
	if b, err := os.ReadFile(filepath.Join(e.Dir, "copy")); err != nil || string(b) != "new\n" {
		t.Errorf("%q, %v", b, err)
	}
	if out := docker("run", "--rm", img, "sh", "-c", "cat /new || which wget"); !strings.Contains(out, "/bin/wget") {
		t.Errorf("the image was changed: %s", out)
	}

	// A container that fills what it may have hurts nobody.
	out, err := e.Command("docker", "run", "--name", "small", "--storage-opt", "size=16M", img, "dd", "if=/dev/zero", "of=/f", "bs=1M", "count=64").CombinedOutput()
	if err == nil || !strings.Contains(strings.ToLower(string(out)), "quota") {
		t.Errorf("64 MiB fit into 16: %v\n%s", err, out)
	}
	docker("run", "--name", "large", img, "dd", "if=/dev/zero", "of=/f", "bs=1M", "count=64")
	var c []struct{ SizeRw int64 }
	if err := json.Unmarshal([]byte(docker("inspect", "--size", "large")), &c); err != nil || len(c) != 1 || c[0].SizeRw < 60<<20 || c[0].SizeRw > 70<<20 {
		t.Errorf("size: %+v, %v", c, err)
	}
	for _, o := range []string{"size=none", "size=-1", "size=0", "color=red"} {
		if out, err := e.Command("docker", "create", "--storage-opt", o, img, "true").CombinedOutput(); err == nil || !strings.Contains(string(out), "storage option") {
			t.Errorf("%s: %v\n%s", o, err, out)
		}
	}

	docker("rm", "one", "small", "large")
	docker("rmi", img)
	e.Stop()
	if n := snapshotDirs(t, e, "btrfs"); n != 0 {
		t.Errorf("%d snapshots are left", n)
	}
	e.Launch()
}

// TestStorageChoice checks what the daemon chooses and what it says of it.
func TestStorageChoice(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "docker-cli")
	e := harness.Start(t, "--storage-driver", "vfs")
	img := e.Import()
	if out, err := e.Command("docker", "create", "--storage-opt", "size=1G", img, "true").CombinedOutput(); err == nil || !strings.Contains(string(out), "this storage driver cannot") {
		t.Errorf("vfs with a limit: %v\n%s", err, out)
	}
	e.Run("run", "--name", "one", img, "touch", "/new")
	if out := e.Run("diff", "one"); out != "A /new" {
		t.Errorf("diff: %q", out)
	}
}
