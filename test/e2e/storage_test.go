package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/system"

	"lade/internal/need"
	"lade/internal/snapshot/devicemapper"
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

// life runs containers of img on the engine's driver with the unmodified docker
// client, as all drivers can: changes are seen, and nobody else sees them.
func life(t *testing.T, e *harness.Engine, docker func(...string) string, img string) {
	t.Helper()
	docker("run", "--name", "one", img, "sh", "-c", "echo new >/new; echo more >>/etc/passwd; rm /bin/wget; mkdir /var/d")
	if got, want := docker("diff", "one"), "C /bin\nD /bin/wget\nC /etc\nC /etc/passwd\nA /new\nC /var\nA /var/d\n"; got != want {
		t.Errorf("diff\n%s, want\n%s", got, want)
	}
	docker("start", "one")
	docker("cp", "one:/new", filepath.Join(e.Dir, "copy"))
	if b, err := os.ReadFile(filepath.Join(e.Dir, "copy")); err != nil || string(b) != "new\n" {
		t.Errorf("the file that cp has brought: %q, %v", b, err)
	}
	if out := docker("run", "--rm", img, "sh", "-c", "cat /new || which wget"); !strings.Contains(out, "/bin/wget") {
		t.Errorf("the image was changed: %s", out)
	}
	docker("commit", "one", "lade-test/changed")
	if out := docker("run", "--rm", "lade-test/changed", "sh", "-c", "cat /new; which wget || echo gone"); out != "new\ngone\n" {
		t.Errorf("what was committed: %q", out)
	}
	docker("rmi", "lade-test/changed")
	docker("run", "--name", "large", img, "dd", "if=/dev/zero", "of=/f", "bs=1M", "count=64")
	var c []struct{ SizeRw int64 }
	// zfsprops(7): what is pending is accounted for within a few seconds.
	need.Eventually(t, "the size has grown by 64 MB", func() bool {
		err := json.Unmarshal([]byte(docker("inspect", "--size", "large")), &c)
		return err != nil || len(c) != 1 || c[0].SizeRw >= 60<<20
	})
	if len(c) != 1 || c[0].SizeRw > 70<<20 {
		t.Errorf("size: %+v", c)
	}
	for _, o := range []string{"size=none", "size=-1", "size=0", "color=red"} {
		if out, err := e.Command("docker", "create", "--storage-opt", o, img, "true").CombinedOutput(); err == nil || !strings.Contains(string(out), "storage option") {
			t.Errorf("%s: %v\n%s", o, err, out)
		}
	}
}

// mapped runs a container whose root is nobody outside, and owns its files.
func mapped(t *testing.T, docker func(...string) string, img string) {
	t.Helper()
	if out := docker("run", "--rm", "--annotation", "lade.userns=auto", img, "sh", "-c", "touch /mine && ls -ln /mine /etc/passwd | awk '{print $3}'"); out != "0\n0\n" {
		t.Errorf("owners with a user namespace: %q", out)
	}
}

// overfull runs a container that writes more than it may have; others of the
// engine have room.
func overfull(t *testing.T, e *harness.Engine, img string, flags ...string) {
	t.Helper()
	args := append(append([]string{"run", "--name", "small"}, flags...), img, "dd", "if=/dev/zero", "of=/f", "bs=1M", "count=64")
	out, err := e.Command("docker", args...).CombinedOutput()
	words := strings.ToLower(string(out))
	if err == nil || !strings.Contains(words, "quota") && !strings.Contains(words, "no space") {
		t.Errorf("64 MiB fit into 16: %v\n%s", err, out)
	}
}

// stays checks that a container which runs keeps its files while the daemon is
// away.
func stays(t *testing.T, e *harness.Engine, docker func(...string) string, img string) {
	t.Helper()
	docker("run", "-d", "--name", "stays", img, "sleep", "1000")
	e.Stop()
	e.Launch()
	docker("exec", "stays", "sh", "-c", "echo still >/f")
	if out := docker("diff", "stays"); out != "A /f\n" {
		t.Errorf("diff: %q", out)
	}
}

// emptied removes the containers and the image, and checks that the driver has
// nothing left of them, and starts again.
func emptied(t *testing.T, e *harness.Engine, docker func(...string) string, driver, img string, containers ...string) {
	t.Helper()
	docker(append([]string{"rm", "-f"}, containers...)...)
	docker("rmi", img)
	e.Stop()
	if n := snapshotDirs(t, e, driver); n != 0 {
		t.Errorf("%d snapshots are left", n)
	}
	e.Launch()
}

// client returns what runs docker and fails the test if it fails.
func client(t *testing.T, e *harness.Engine) func(...string) string {
	return func(args ...string) string {
		t.Helper()
		out, err := e.Command("docker", args...).CombinedOutput()
		if err != nil {
			t.Errorf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
}

// TestStorageBtrfs runs containers on btrfs.
func TestStorageBtrfs(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "docker-cli")
	disk := snapshottest.Disk{Type: "btrfs", Mkfs: []string{"mkfs.btrfs", "-q"}, From: "btrfs-progs", Size: 1 << 30}
	t.Setenv("TMPDIR", disk.Mount(t))
	e := harness.Start(t, "--storage-driver", "btrfs")
	if i := info(t, e); i.Driver != "btrfs" || statusOf(i, "Chosen Because") != "it was asked for" {
		t.Errorf("%s: %v", i.Driver, i.DriverStatus)
	}
	img, docker := e.Import(), client(t, e)
	life(t, e, docker, img)
	mapped(t, docker, img)
	overfull(t, e, img, "--storage-opt", "size=16M")
	docker("volume", "create", "-o", "size=16M", "bounded")
	if out, err := e.Command("docker", "run", "--rm", "-v", "bounded:/v", img, "dd", "if=/dev/zero", "of=/v/f", "bs=1M", "count=64").CombinedOutput(); err == nil || !strings.Contains(strings.ToLower(string(out)), "quota") {
		t.Errorf("64 MiB fit into a volume of 16: %v\n%s", err, out)
	}
	docker("volume", "rm", "bounded")
	stays(t, e, docker, img)
	emptied(t, e, docker, "btrfs", img, "one", "small", "large", "stays")
}

// TestStorageDevicemapper runs containers on thin devices, where the kernel has
// them.
func TestStorageDevicemapper(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "docker-cli")
	if err := devicemapper.Probe(t.TempDir()); err != nil {
		t.Skip(err)
	}
	e := harness.Start(t, "--storage-driver", "devicemapper", "--storage-opt", "dm.basesize=128M", "--storage-opt", "dm.loopdatasize=2G", "--storage-opt", "dm.loopmetadatasize=16M")
	if i := info(t, e); i.Driver != "devicemapper" || statusOf(i, "Backing Filesystem") != "ext4" {
		t.Errorf("%s: %v", i.Driver, i.DriverStatus)
	}
	img, docker := e.Import(), client(t, e)
	life(t, e, docker, img)
	mapped(t, docker, img)
	if out, err := e.Command("docker", "create", "--storage-opt", "size=64M", img, "true").CombinedOutput(); err == nil || !strings.Contains(string(out), "dm.basesize") {
		t.Errorf("less than the base: %v\n%s", err, out)
	}
	docker("run", "--rm", "--storage-opt", "size=320M", img, "dd", "if=/dev/zero", "of=/f", "bs=1M", "count=200")
	stays(t, e, docker, img)
	emptied(t, e, docker, "devicemapper", img, "one", "large", "stays")
}

// TestStorageZFS runs containers on datasets, where the machine has ZFS.
func TestStorageZFS(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "docker-cli")
	raw, err := os.ReadFile("/proc/filesystems")
	if _, missing := exec.LookPath("zpool"); err != nil || missing != nil || !strings.Contains(string(raw), "\tzfs\n") {
		t.Skip("this machine has no ZFS")
	}
	pool := fmt.Sprintf("ladee2e%d", os.Getpid())
	file := filepath.Join("/dev/shm", pool)
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 768<<20)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(file) })
	if out, err := exec.Command("zpool", "create", "-O", "compression=off", "-m", "none", pool, file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("zpool", "destroy", pool).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	e := harness.Start(t, "--storage-driver", "zfs", "--storage-opt", "zfs.fsname="+pool)
	if i := info(t, e); i.Driver != "zfs" || statusOf(i, "Zpool Health") != "ONLINE" {
		t.Errorf("%s: %v", i.Driver, i.DriverStatus)
	}
	img, docker := e.Import(), client(t, e)
	life(t, e, docker, img)
	overfull(t, e, img, "--storage-opt", "size=16M")
	stays(t, e, docker, img)
	emptied(t, e, docker, "zfs", img, "one", "small", "large", "stays")
}

// TestStorageProjects limits containers on overlay2 by project quotas, where the
// kernel has them: by a flag, and by the daemon's default.
func TestStorageProjects(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "docker-cli")
	snapshottest.Projects(t, func(t *testing.T, root string) {
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("TMPDIR", root)
		e := harness.Start(t, "--storage-driver", "overlay2", "--storage-opt", "overlay2.size=16M")
		img, docker := e.Import(), client(t, e)
		overfull(t, e, img)
		docker("run", "--name", "large", "--storage-opt", "size=100M", img, "dd", "if=/dev/zero", "of=/f", "bs=1M", "count=64")
		docker("rm", "small", "large")
	})
}

// TestStorageChoice checks what the daemon chooses and what it says of it.
func TestStorageChoice(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "docker-cli")
	e := harness.Start(t, "--storage-driver", "vfs")
	img := e.Import()
	if out, err := e.Command("docker", "create", "--storage-opt", "size=1G", img, "true").CombinedOutput(); err == nil || !strings.Contains(string(out), "no project quota") {
		t.Errorf("vfs with a limit: %v\n%s", err, out)
	}
	e.Run("run", "--name", "one", img, "touch", "/new")
	if out := e.Run("diff", "one"); out != "A /new" {
		t.Errorf("diff: %q", out)
	}

	mapped(t, client(t, e), img)

	// Without a word the driver fits the machine.
	e = harness.Start(t)
	if i := info(t, e); i.Driver == "" || !strings.Contains(statusOf(i, "Chosen Because"), "works on") {
		t.Errorf("%s: %v", i.Driver, i.DriverStatus)
	}
}
